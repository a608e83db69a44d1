"""`GET /v1/decisions/{request_id}`: why each item has its position. Needs the admin scope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Request, Response

from feature_repo.errors import LogError
from serving.api.api_keys import Keys, Scope
from serving.api.asgi import as_json
from serving.decisions.lookup import TooFarBackError
from serving.decisions.record import Decision
from serving.schemas.errors import ApiError, error_answers


class Explained(msgspec.Struct, frozen=True):
    """A decision record, and an explanation of each item's position in words.

    Attributes:
        others: older records if a client used the request id more than once, newest first.
    """

    decision: Decision
    words: list[str]
    others: list[Decision] = []


def decisions_router(
    find: Callable[[str], list[Decision]], explain: Callable[[Decision], list[str]], keys: Keys
) -> APIRouter:
    """Create the route of decision records.

    Args:
        find: returns the records of a request id, newest first; may read files.
        explain: explains a record in words; may read files.
    """
    router = APIRouter(tags=["admin"], responses=error_answers(401, 403, 404, 422, 503))

    @router.get(
        "/v1/decisions/{request_id:path}",  # an id may hold slashes
        summary="Explain a ranking: reasons in words, inputs, versions",
    )
    async def decision(request_id: str, request: Request) -> Response:
        keys.check(request.headers.raw, Scope.ADMIN)
        try:
            found = await asyncio.to_thread(find, request_id)
        except LogError as error:
            message = "the event log cannot be read now"
            raise ApiError(503, "log_unavailable", "", message, retry_after_s=2) from error
        except TooFarBackError as error:
            raise ApiError(404, "unknown_decision", "request_id", str(error)) from error
        if not found:
            message = (
                "no decision has that request id: never made, not sampled, not yet written or past retention"
            )
            raise ApiError(404, "unknown_decision", "request_id", message)
        words = await asyncio.to_thread(explain, found[0])
        return as_json(Explained(found[0], words, found[1:]))

    return router
