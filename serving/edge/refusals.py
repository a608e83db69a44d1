"""Errors that a connection answers by itself: size and time limits, as bytes on the wire."""

from __future__ import annotations

from http import HTTPStatus

from serving.schemas.errors import ApiError


def head_too_large(most: int) -> ApiError:
    message = f"headers: over {most} bytes with the request line (HEADRACE_MAX_HEADER_BYTES)"
    return ApiError(431, "headers_too_large", "", message)


def too_slow(what: str, seconds: float) -> ApiError:
    return ApiError(408, "too_slow", "", f"{what}: not complete after {seconds:g} s")


def raw_answer(error: ApiError) -> bytes:
    """Encode an error as an HTTP/1.1 response that closes the connection."""
    body = error.body
    headers = [*error.headers, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (
        error.status,
        HTTPStatus(error.status).phrase.encode(),
        lines,
        body,
    )
