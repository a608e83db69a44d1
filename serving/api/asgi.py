"""The few lines of ASGI that the hot routes need, where a framework would take longer than the route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.schemas.errors import ApiError, too_large

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ARRIVED = "headrace.arrived"
"""Scope key for the `perf_counter` time at which the last byte arrived, set by `serving.edge.connections`."""
JSON_HEADERS = [(b"content-type", b"application/json")]


def arrived(scope: Scope) -> float:
    """Return the `perf_counter` time at which the whole request had arrived, or now if it is not recorded."""
    at: float = scope.get(ARRIVED) or perf_counter()
    return at


class ClientGone(Exception):
    """The client closed the connection before its body was complete."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        ApiError: 413 as soon as the body is known to exceed `limit` bytes.
        ClientGone: the connection ended first.
    """
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise too_large(int(announced), limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise too_large(len(body), limit)
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large(size, limit)
    return b"".join(parts)


async def read_request(request: Request, limit: int) -> bytes:
    """Read the whole body of a request to one of FastAPI's routes.

    Raises:
        ApiError: 413, the body is longer than `limit` bytes; 400, the connection ended first.
    """
    try:
        return await read_body(request.scope, request.receive, limit)
    except ClientGone as error:
        raise ApiError(400, "client_gone", "", "the connection ended") from error


def as_json(value: object) -> Response:
    """Make the response of one of FastAPI's routes."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return a request header by its lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


async def respond(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send a complete answer, as JSON unless the headers say otherwise."""
    length = (b"content-length", str(len(body)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [*(headers or JSON_HEADERS), length]}
    )
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: ApiError) -> None:
    """Send an error as JSON."""
    await respond(send, error.status, error.body, error.headers)
