"""``POST /rank/{model}`` and ``POST /feedback``: the Metarank shape, for clients written for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from time import perf_counter
from typing import Any, Protocol, TypeAlias

import msgspec
from fastapi import APIRouter, Query, Request, Response

from feature_repo.batch import Given
from serving.answer import RankAnswer
from serving.http import ClientGone, read_body
from serving.metarank import FeedbackBack, from_answer, to_records, to_request
from serving.problem import ApiError
from serving.routes.events import rejections

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class Taken(Protocol):
    """What the events door made of records."""

    @property
    def accepted(self) -> int:
        """Records taken."""
        ...

    @property
    def rejected(self) -> Sequence[Any]:
        """Records refused."""
        ...


Rank: TypeAlias = Callable[[Headers, bytes, float], Awaitable[RankAnswer]]
"""Headers, body as of ``POST /v1/rank``, time of arrival (`perf_counter`) → answer; raises `ApiError`."""
Take: TypeAlias = Callable[[Headers, Sequence[Given]], Awaitable[Taken]]
"""Headers and records → what was taken; raises `ApiError`."""


def metarank_router(rank: Rank, take: Take, known: Container[str], max_body_bytes: int) -> APIRouter:
    """The routes.

    Args:
        rank, take: what `/v1/rank` and `/v1/events` do, keys checked.
        known: registered event types.
        max_body_bytes: longest body that is read.
    """
    router = APIRouter(tags=["metarank"])

    @router.post("/rank/{model}", summary="Rank, in Metarank's shape", openapi_extra=_body(_RANKING))
    async def rank_model(
        request: Request,
        model: str,
        explain: bool = Query(False, description="Whether items say what adds to their score."),
    ) -> Response:
        arrived = perf_counter()
        body = to_request(await _read(request, max_body_bytes), explain=explain)
        return _json(from_answer(await rank(request.headers.raw, body, arrived)))

    @router.post("/feedback", summary="Take events, in Metarank's shape", openapi_extra=_body(_EVENT))
    async def feedback(request: Request) -> Response:
        started = perf_counter()
        records = to_records(await _read(request, max_body_bytes), known)
        taken = await take(request.headers.raw, records)
        status = "ok" if not taken.rejected else f"{len(taken.rejected)} rejected"
        took = round((perf_counter() - started) * 1e3)
        return _json(FeedbackBack(taken.accepted, status, took, rejected=rejections(taken.rejected)))

    return router


async def _read(request: Request, limit: int) -> bytes:
    try:
        return await read_body(request.scope, request.receive, limit)
    except ClientGone as error:
        raise ApiError(400, "client_gone", "", "the connection ended") from error


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


_RANKING = {
    "id": "request-1",
    "timestamp": 1717243200000,
    "user": "u1",
    "session": "s1",
    "items": [{"id": "i1", "relevancy": 0.7}, {"id": "i2", "relevancy": 0.4}],
}
_EVENT = {
    "event": "interaction",
    "id": "event-1",
    "timestamp": 1717243200000,
    "user": "u1",
    "session": "s1",
    "type": "click",
    "item": "i1",
    "ranking": "request-1",
}


def _body(example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}
