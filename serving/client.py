"""A small client of the service, sync and async: it never makes a page worse than the order it was given.

    client = RankClient("http://127.0.0.1:8080", api_key="…")
    ranking = client.rank(["i1", "i2", "i3"], user_id="u1", session_id="s1")
    [item.item_id for item in ranking.items]

A ranking that fails, is late or makes no sense falls back to the order given, and says so. Rankings and
events are tried again where that is safe: a ranking changes nothing, an event counts once by its id.
What came too late is not asked for again. A call takes no longer than its timeout, tries and all, however
slowly an answer trickles in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
from tenacity import AsyncRetrying, Retrying

from serving.client_transport import BoundedTransport
from serving.client_wire import (
    Call,
    Candidates,
    ClientError,
    Post,
    Ranked,
    Ranking,
    Sent,
    Wire,
    WireOptions,
    raise_to_retry,
    told,
)

__all__ = ["RankClient", "AsyncRankClient", "Ranking", "Ranked", "Sent", "ClientError"]
T = TypeVar("T")
LEAST_S = 0.001
"""Given to a try that begins when the time is about over: none at all would mean not to wait."""


class RankClient:
    """The client for threads. Use one for the whole process, and close it.

    Args:
        base_url: of the service.
        transport: in place of the network: for tests, or for a proxy; httpx's own bounds each read of an
            answer, not the whole.
        options: see `WireOptions`.
    """

    def __init__(
        self, base_url: str, *, transport: httpx.BaseTransport | None = None, **options: Unpack[WireOptions]
    ) -> None:
        self._wire = Wire(**options)
        self._http = httpx.Client(
            transport=transport or BoundedTransport(), base_url=base_url, headers=self._wire.headers
        )

    def rank(self, candidates: Candidates, *, limit: int | None = None, **options: Any) -> Ranking:
        """Rank items, given best first, by id or as (id, score).

        Args:
            limit: items wanted.
            options: `user_id`, `session_id`, `query`, `explain`, `request_id`, `consent`, `overrides`.

        Returns:
            the answer; the order given, with `fallback` saying why, where there is none in time.
        """
        return self._make(self._wire.rank(candidates, limit, options))

    def send(self, records: Sequence[Mapping[str, Any]]) -> Sent:
        """Send events, items or users; each event carries its `event_id`, so that sending twice is harmless.

        Raises:
            ClientError: they were not stored; send the same ones again later.
        """
        return self._make(self._wire.send(records))

    def _make(self, call: Call[T]) -> T:
        post = next(call)
        until = monotonic() + post.budget_s
        try:
            response = Retrying(**self._wire.retrying(post.budget_s))(self._post, post, until)
        except (httpx.HTTPError, ClientError) as error:
            return told(call, error)
        return told(call, response)

    def _post(self, post: Post, until: float) -> httpx.Response:
        left = max(until - monotonic(), LEAST_S)
        response = self._http.post(post.path, content=post.body, timeout=left)
        raise_to_retry(response)
        return response

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class AsyncRankClient:
    """The client for asyncio; as `RankClient`."""

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[WireOptions],
    ) -> None:
        self._wire = Wire(**options)
        self._http = httpx.AsyncClient(transport=transport, base_url=base_url, headers=self._wire.headers)

    async def rank(self, candidates: Candidates, *, limit: int | None = None, **options: Any) -> Ranking:
        """As `RankClient.rank`."""
        return await self._make(self._wire.rank(candidates, limit, options))

    async def send(self, records: Sequence[Mapping[str, Any]]) -> Sent:
        """As `RankClient.send`."""
        return await self._make(self._wire.send(records))

    async def _make(self, call: Call[T]) -> T:
        post = next(call)
        try:
            again = AsyncRetrying(**self._wire.retrying(post.budget_s))
            async with asyncio.timeout(post.budget_s):
                response: httpx.Response = await again(self._post, post)
        except TimeoutError:
            return told(call, httpx.ReadTimeout("no whole answer in time"))
        except (httpx.HTTPError, ClientError) as error:
            return told(call, error)
        return told(call, response)

    async def _post(self, post: Post) -> httpx.Response:
        response = await self._http.post(post.path, content=post.body, timeout=None)  # bounded as a whole
        raise_to_retry(response)
        return response

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()
