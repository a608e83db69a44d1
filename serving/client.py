"""A small client of the service, sync and async: it never makes a page worse than the order it was given.

    client = RankClient("http://127.0.0.1:8080", api_key="…")
    ranking = client.rank(["i1", "i2", "i3"], user_id="u1", session_id="s1")
    [item.item_id for item in ranking.items]

A ranking that fails, is late or makes no sense falls back to the order given, and says so. Rankings and
events are tried again where that is safe: a ranking changes nothing, an event counts once by its id.
What came too late is not asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
from tenacity import AsyncRetrying, Retrying

from serving.client_wire import (
    EVENTS_TIMEOUT_S,
    JSON,
    RANK_TIMEOUT_S,
    Candidates,
    ClientError,
    Ranked,
    Ranking,
    Sent,
    Wire,
    raise_to_retry,
    unreachable,
)

__all__ = ["RankClient", "AsyncRankClient", "Ranking", "Ranked", "Sent", "ClientError"]


class RankClient:
    """The client for threads. Use one for the whole process, and close it.

    Args:
        base_url: of the service.
        api_key: with the scopes the calls need.
        rank_timeout_s, events_timeout_s: how long the service may stay silent, and how long new tries begin.
        attempts: tries of a call.
        transport: in place of the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        rank_timeout_s: float = RANK_TIMEOUT_S,
        events_timeout_s: float = EVENTS_TIMEOUT_S,
        attempts: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._wire = Wire(base_url, api_key, rank_timeout_s, events_timeout_s, attempts)
        self._http = httpx.Client(transport=transport, **self._wire.options)

    def rank(self, candidates: Candidates, *, limit: int | None = None, **options: Any) -> Ranking:
        """Rank items, given best first, by id or as (id, score).

        Args:
            limit: items wanted.
            options: `user_id`, `session_id`, `query`, `explain`, `request_id`, `consent`, `overrides`.

        Returns:
            the answer; the order given, with `fallback` saying why, where there is none in time.
        """
        request_id, body, item_ids = self._wire.rank_body(candidates, {"limit": limit, **options})
        try:
            response = self._post("/v1/rank", body, self._wire.rank_timeout_s)
            return self._wire.read_ranking(response, item_ids)
        except (httpx.HTTPError, ClientError) as error:
            return self._wire.as_given(request_id, item_ids, limit, error)

    def send(self, records: Sequence[Mapping[str, Any]]) -> Sent:
        """Send events, items or users; each event carries its `event_id`, so that sending twice is harmless.

        Raises:
            ClientError: they were not stored; send the same ones again later.
        """
        try:
            body = msgspec.json.encode(list(records))
            return self._wire.read_sent(self._post("/v1/events", body, self._wire.events_timeout_s))
        except httpx.HTTPError as error:
            raise unreachable(error) from error

    def _post(self, path: str, body: bytes, budget_s: float) -> httpx.Response:
        for attempt in Retrying(**self._wire.retrying(budget_s)):
            with attempt:
                response = self._http.post(path, content=body, headers=JSON, timeout=budget_s)
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
        api_key: str | None = None,
        rank_timeout_s: float = RANK_TIMEOUT_S,
        events_timeout_s: float = EVENTS_TIMEOUT_S,
        attempts: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._wire = Wire(base_url, api_key, rank_timeout_s, events_timeout_s, attempts)
        self._http = httpx.AsyncClient(transport=transport, **self._wire.options)

    async def rank(self, candidates: Candidates, *, limit: int | None = None, **options: Any) -> Ranking:
        """As `RankClient.rank`."""
        request_id, body, item_ids = self._wire.rank_body(candidates, {"limit": limit, **options})
        try:
            response = await self._post("/v1/rank", body, self._wire.rank_timeout_s)
            return self._wire.read_ranking(response, item_ids)
        except (httpx.HTTPError, ClientError) as error:
            return self._wire.as_given(request_id, item_ids, limit, error)

    async def send(self, records: Sequence[Mapping[str, Any]]) -> Sent:
        """As `RankClient.send`."""
        try:
            body = msgspec.json.encode(list(records))
            return self._wire.read_sent(await self._post("/v1/events", body, self._wire.events_timeout_s))
        except httpx.HTTPError as error:
            raise unreachable(error) from error

    async def _post(self, path: str, body: bytes, budget_s: float) -> httpx.Response:
        async for attempt in AsyncRetrying(**self._wire.retrying(budget_s)):
            with attempt:
                response = await self._http.post(path, content=body, headers=JSON, timeout=budget_s)
                raise_to_retry(response)
        return response

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()
