"""``POST /rank/{model}`` and ``POST /feedback``: the API of Metarank, for clients written for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

from fastapi import APIRouter, Depends, Query, Request, Response

from serving.api.api_keys import Scope
from serving.api.asgi import arrived, as_json, read_request
from serving.api.events import Read, note_of, rejections
from serving.schemas.metarank_shape import FeedbackBack, from_answer, to_records, to_request
from serving.schemas.rank_response import RankAnswer
from streaming.ingest.event_door import DoorResult

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


Rank: TypeAlias = Callable[[Headers, bytes, float], Awaitable[RankAnswer]]
"""Headers, body of ``POST /v1/rank``, arrival time (`perf_counter`) → answer; raises `ApiError`."""
Take: TypeAlias = Callable[[bytes, Read], Awaitable[DoorResult]]
"""A body and its parser → outcome of the batch; raises `ApiError`."""
Check: TypeAlias = Callable[[Headers, Scope], object]
"""Headers and required scope; raises `ApiError` if the key is missing or lacks the scope."""


@dataclass(frozen=True)
class MetarankLimits:
    """Limits of a request: bytes of a body, items of a ranking."""

    body_bytes: int
    items: int


def metarank_router(
    rank: Rank, take: Take, check: Check, known: Container[str], limits: MetarankLimits
) -> APIRouter:
    """Create the routes. They check the key before they read the body.

    Args:
        rank, take: the implementations of `/v1/rank` and `/v1/events`.
        known: registered event types.
    """
    router = APIRouter(tags=["metarank"])

    def needs(scope: Scope) -> Any:
        async def checked(request: Request) -> None:
            check(request.headers.raw, scope)

        return Depends(checked)

    @router.post(
        "/rank/{model}",
        summary="Rank, in Metarank's format",
        openapi_extra=_body(_RANKING),
        dependencies=[needs(Scope.RANK)],
    )
    async def rank_model(
        request: Request,
        model: str,
        explain: bool = Query(False, description="Whether each item lists the contributions to its score."),
    ) -> Response:
        body = await read_request(request, limits.body_bytes)
        body = to_request(body, explain=explain, most=limits.items)
        return as_json(from_answer(await rank(request.headers.raw, body, arrived(request.scope))))

    @router.post(
        "/feedback",
        summary="Accept events, in Metarank's format",
        openapi_extra=_body(_EVENT),
        dependencies=[needs(Scope.EVENTS)],
    )
    async def feedback(request: Request) -> Response:
        body = await read_request(request, limits.body_bytes)
        taken = await take(body, partial(to_records, known=known))
        status = f"{len(taken.rejected)} rejected" if taken.rejected else "ok"
        if note := note_of(taken):
            status = f"{status}; {note}"
        took = round((perf_counter() - arrived(request.scope)) * 1e3)
        return as_json(FeedbackBack(taken.accepted, status, took, rejected=rejections(taken.rejected)))

    return router


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
