"""`GET /v1/decisions/{request_id}`: why each item stands where it does. Needs the admin scope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Request, Response

from serving.decision import Decision
from serving.keys import Keys, Scope
from serving.problem import ApiError, error_answers


def decisions_router(find: Callable[[str], Decision | None], keys: Keys) -> APIRouter:
    """The route of decision records.

    Args:
        find: looks a record up; may read files.
    """
    router = APIRouter(tags=["admin"], responses=error_answers(401, 403, 404, 422))

    @router.get("/v1/decisions/{request_id}", summary="The record of one answer: inputs, versions, outcome")
    async def decision(request_id: str, request: Request) -> Response:
        keys.check(request.headers.raw, Scope.ADMIN)
        found = await asyncio.to_thread(find, request_id)
        if found is None:
            message = (
                "no decision of that request id: never made, not sampled, not yet written, or past retention"
            )
            raise ApiError(404, "unknown_decision", "request_id", message)
        return Response(msgspec.json.encode(found), media_type="application/json")

    return router
