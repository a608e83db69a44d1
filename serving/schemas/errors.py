"""Error answers: a code, the field, and a message that says what would be right."""

from __future__ import annotations

from typing import Any

import msgspec

from feature_repo.errors import HeadraceError


class Problem(msgspec.Struct, frozen=True):
    """Body of every error answer, under ``error``."""

    code: str
    field: str
    message: str


class ProblemAnswer(msgspec.Struct, frozen=True):
    """``{"error": {"code": …, "field": …, "message": …}}``."""

    error: Problem


class ApiError(HeadraceError):
    """A request that gets a 4xx or 503 answer.

    Attributes:
        status: HTTP status.
        code: stable, machine-readable reason.
        field: dotted path of the offending field, or ``""``.
        retry_after_s: sent as ``Retry-After`` if a retry may succeed.
    """

    def __init__(
        self, status: int, code: str, field: str, message: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> bytes:
        """The JSON answer."""
        return msgspec.json.encode(ProblemAnswer(Problem(self.code, self.field, str(self))))

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the answer."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(self.retry_after_s).encode()))
        return headers


def too_large(size: int, limit: int) -> ApiError:
    """Make the error for a body over the limit (bytes)."""
    message = (
        f"body: {size} bytes or more; the limit is {limit}: send fewer candidates or events at once, "
        "or raise HEADRACE_MAX_BODY_BYTES"
    )
    return ApiError(413, "body_too_large", "", message)


MEANINGS = {
    400: "The connection ended before the body was complete.",
    401: "No valid API key.",
    403: "The key lacks the scope.",
    404: "Not found.",
    413: "The body is too large.",
    422: "Malformed or refused; the error names code and field.",
    503: "Temporarily unavailable; send the same request again.",
}


def error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route for FastAPI's OpenAPI document."""
    problem = msgspec.json.schema(Problem)["$defs"]["Problem"]
    schema = {"type": "object", "properties": {"error": problem}, "required": ["error"]}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": MEANINGS[status], "content": content} for status in statuses}
