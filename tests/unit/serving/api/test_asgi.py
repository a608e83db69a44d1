"""Bodies as ASGI delivers them: whole, in parts, too long, cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.asgi import ClientGone, header, read_body, respond, respond_error
from serving.schemas.errors import ApiError

LIMIT = 100


def body_of(parts: Sequence[bytes], announced: int | None = None, cut: bool = False) -> bytes:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": cut or number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    if cut:
        messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    return asyncio.run(read_body({"headers": headers}, receive, LIMIT))


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6))
def test_parts_are_joined_up_to_the_limit(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    if len(whole) <= LIMIT:
        assert body_of(parts) == whole
    else:
        with pytest.raises(ApiError, match="HEADRACE_MAX_BODY_BYTES"):
            body_of(parts)


def test_the_limit_itself_is_allowed() -> None:
    assert body_of([b"x" * LIMIT]) == b"x" * LIMIT


def test_what_is_announced_too_long_is_not_read() -> None:
    with pytest.raises(ApiError) as caught:
        body_of([], announced=LIMIT + 1)
    assert (caught.value.status, caught.value.code) == (413, "body_too_large")


def test_a_length_that_is_no_number_is_ignored() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x"}

    scope = {"headers": [(b"content-length", b"many")]}
    assert asyncio.run(read_body(scope, receive, LIMIT)) == b"x"


@pytest.mark.parametrize("parts", [[], [b"begun"]])
def test_a_client_that_goes_away(parts: list[bytes]) -> None:
    with pytest.raises(ClientGone):
        body_of(parts, cut=True)


def test_headers_by_name() -> None:
    scope = {"headers": [(b"a", b"1"), (b"b", b"2")]}
    assert header(scope, b"b") == b"2"
    assert header(scope, b"c") is None


def sent(answer: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(answer(send))
    return messages[0]["status"], dict(messages[0]["headers"]), messages[1]["body"]


def test_an_answer_says_its_length_and_type() -> None:
    status, headers, body = sent(lambda send: respond(send, 200, b"{}"))
    assert (status, body) == (200, b"{}")
    assert headers == {b"content-type": b"application/json", b"content-length": b"2"}


def test_an_error_says_when_to_come_back() -> None:
    error = ApiError(503, "busy", "field", "not now", retry_after_s=2)
    status, headers, body = sent(lambda send: respond_error(send, error))
    assert (status, headers[b"retry-after"]) == (503, b"2")
    assert json.loads(body) == {"error": {"code": "busy", "field": "field", "message": "not now"}}
