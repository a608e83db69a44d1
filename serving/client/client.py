"""A small sync and async client of the service, which never makes a page worse than its given order.

    client = RankClient("http://127.0.0.1:8080", api_key="…")
    ranking = client.rank(["i1", "i2", "i3"], user_id="u1", session_id="s1")
    [item.item_id for item in ranking.items]

A ranking that fails, is late or is invalid falls back to the given order and sets `fallback`. Failed requests
are retried, which is safe: rankings change nothing and events are deduplicated by id. Late answers are not
retried. A call never takes longer than its timeout, including retries and slow answers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from .protocol import (
    Call,
    Candidates,
    ClientError,
    ClientOptions,
    Post,
    Protocol,
    Ranking,
    RankOptions,
    Sent,
    outcome_of,
    raise_to_retry,
)

T = TypeVar("T")


class AsyncRankClient:
    """The client for asyncio. Use one for the whole process, and close it.

    Args:
        base_url: URL of the service.
        transport: replaces the network, for tests or a proxy.
        options: see `ClientOptions`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._protocol = Protocol(**options)
        self._http = httpx.AsyncClient(transport=transport, base_url=base_url, headers=self._protocol.headers)

    async def rank(
        self, candidates: Candidates, *, limit: int | None = None, **options: Unpack[RankOptions]
    ) -> Ranking:
        """Rank items, given best first as ids or as (id, score).

        Args:
            limit: number of items wanted; absent: all.
            options: see `RankOptions`.

        Returns:
            The answer, or the given order if there is none in time; `fallback` then says why.
        """
        return await self._make(self._protocol.rank(candidates, limit, options))

    async def send(self, records: Sequence[Mapping[str, Any]]) -> Sent:
        """Send events, items or users. Each event has an `event_id`, so sending it twice is harmless.

        Raises:
            ClientError: the records were not stored; send the same ones again later.
        """
        return await self._make(self._protocol.send(records))

    async def _make(self, call: Call[T]) -> T:
        post = next(call)
        try:
            async with asyncio.timeout(post.budget_s):
                response = await self._retried(post)
        except TimeoutError:
            return outcome_of(call, httpx.ReadTimeout("no whole answer in time"))
        except (httpx.HTTPError, ClientError) as error:
            return outcome_of(call, error)
        return outcome_of(call, response)

    async def _retried(self, post: Post) -> httpx.Response:
        until, attempt = monotonic() + post.budget_s, 1
        while True:
            try:
                left = max(until - monotonic(), 0.001)
                response = await self._http.post(post.path, content=post.body, timeout=left)
                raise_to_retry(response)
                return response
            except (httpx.TransportError, ClientError) as error:
                pause = self._protocol.pause_s(error, attempt, until - monotonic(), post.budget_s)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            attempt += 1

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()


class RankClient:
    """The client for threads: an `AsyncRankClient` on an event loop in a background thread.

    Only an event loop can limit the time of a whole request; timeouts of blocking sockets limit each read.
    Use one client for the whole process, and close it. A forked process gets its own loop and connections.

    Args:
        base_url: URL of the service.
        transport: replaces the network, for tests or a proxy.
        options: see `ClientOptions`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._base_url, self._transport, self._options = base_url, transport, options
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._closed = False

    def rank(
        self, candidates: Candidates, *, limit: int | None = None, **options: Unpack[RankOptions]
    ) -> Ranking:
        """Rank items; see `AsyncRankClient.rank`."""
        running = self._run()
        return running.wait(running.client.rank(candidates, limit=limit, **options))

    def send(self, records: Sequence[Mapping[str, Any]]) -> Sent:
        """Send events, items or users; see `AsyncRankClient.send`."""
        running = self._run()
        return running.wait(running.client.send(records))

    def _run(self) -> _Running:
        running = self._running
        if running is not None and running.pid == os.getpid():
            return running
        with self._lock:
            if self._closed:
                message = "the client is closed"
                raise RuntimeError(message)
            if self._running is None or self._running.pid != os.getpid():
                client = AsyncRankClient(self._base_url, transport=self._transport, **self._options)
                self._running = _Running(client)
            return self._running

    def close(self) -> None:
        """Close the connections and end the thread."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None and running.pid == os.getpid():
            running.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class _Running:
    """An asyncio client and the thread that runs its event loop."""

    def __init__(self, client: AsyncRankClient) -> None:
        self.client = client
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="headrace-client", daemon=True)
        self._thread.start()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def end(self) -> None:
        """Close the client, then the loop."""
        self.wait(self.client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
