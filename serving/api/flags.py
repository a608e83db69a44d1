"""Flags over HTTP: read, change, roll back, history. Needs the admin scope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from serving.api.api_keys import Keys, Scope
from serving.api.asgi import as_json, read_request
from serving.control.flag_control import FlagControl
from serving.control.flags import Flags, FlagsError
from serving.control.versions import NotStoredError
from serving.schemas.errors import ApiError, error_answers

_BODY_LIMIT = 65_536
"""Maximum body size in bytes. It needs no setting: a full set of flags takes less than a hundredth of it."""
_CHANGES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "description": "Flags by name or path, with their new values."},
                "example": {"personalization": True, "cap.positions": 20},
            }
        },
    }
}


def admin_router(control: FlagControl, keys: Keys, after_change: Callable[[], object]) -> APIRouter:
    """Create the routes of the flags.

    Args:
        after_change: makes this worker apply a change at once; the others follow within a second.
    """
    router = APIRouter(prefix="/v1/flags", tags=["admin"], responses=error_answers(401, 403, 422, 503))

    @router.get("", summary="The flags in force")
    async def get_flags(request: Request) -> Response:
        keys.check(request.headers.raw, Scope.ADMIN)
        return as_json(await asyncio.to_thread(_mapped, control.store.load))

    @router.patch(
        "",
        summary="Change flags; every worker follows within a second",
        openapi_extra=_CHANGES,
        responses=error_answers(400, 413),
    )
    async def change_flags(request: Request) -> Response:
        who = keys.check(request.headers.raw, Scope.ADMIN)
        changes = await _changes(request)
        return as_json(await asyncio.to_thread(_made, lambda: control.change(changes, who), after_change))

    @router.post("/rollback", summary="Return to the previous set of flags")
    async def rollback(request: Request) -> Response:
        who = keys.check(request.headers.raw, Scope.ADMIN)
        return as_json(await asyncio.to_thread(_made, lambda: control.rollback(who), after_change))

    @router.get("/history", summary="Who changed what, when, from what, to what")
    async def history(request: Request) -> Response:
        keys.check(request.headers.raw, Scope.ADMIN)
        return as_json(await asyncio.to_thread(control.store.history))

    return router


def _made(call: Callable[[], Flags], after_change: Callable[[], object]) -> Flags:
    """Make a change and apply it in this worker, even if it could not be stored."""
    try:
        return _mapped(call)
    finally:
        after_change()


def _mapped(call: Callable[[], Flags]) -> Flags:
    try:
        return call()
    except NotStoredError as error:
        message = (
            f"the flags folder cannot be written ({error.why}): the change is in force in this worker only, "
            "which stores it as soon as it can; make room"
        )
        raise ApiError(503, "flags_not_stored", "", message, retry_after_s=2) from error
    except FlagsError as error:
        raise ApiError(422, "bad_flag", error.field, str(error)) from error
    except OSError as error:
        message = f"the flags folder cannot be used now ({error.strerror})"
        raise ApiError(503, "flags_unavailable", "", message, retry_after_s=2) from error


async def _changes(request: Request) -> dict[str, Any]:
    message = 'body: send a JSON object of flags, e.g. {"personalization": false}'
    try:
        body = await read_request(request, _BODY_LIMIT)
        return msgspec.json.decode(body, type=dict[str, Any])
    except ApiError as error:
        if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise
        # Replace the message: it names a setting that limits rankings and events, not flags.
        larger = f"body: over {_BODY_LIMIT} bytes; put a larger set of changes into the flags file"
        raise ApiError(error.status, error.code, "", larger) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(422, "not_json", "", message) from error
