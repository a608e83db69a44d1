"""The body of `POST /v1/rank`: the shape as msgspec structs, the limits from the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from feature_repo.settings import Settings
from serving.schemas.errors import ApiError

MAX_ID = 256
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
_FIELD_AT = re.compile(r" - at `\$?\.?([^`]*)`")


class Candidate(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One item to rank, with the score from its source."""

    item_id: Annotated[Id, Meta(description="The item.")]
    score: Annotated[
        float | None, Meta(description="Base score, higher is better; absent: from the given order.")
    ] = None


item_id_of = attrgetter("item_id")


class RankRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to rank, and for whom."""

    candidates: Annotated[list[Candidate], Meta(description="Distinct items, best first.")]
    user_id: Annotated[Id | None, Meta(description="The user; absent while anonymous.")] = None
    session_id: Annotated[Id | None, Meta(description="The running session.")] = None
    query: Annotated[Annotated[str, Meta(max_length=1024)] | None, Meta(description="The search query.")] = (
        None
    )
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None, Meta(description="Items wanted; absent: all.")
    ] = None
    explain: Annotated[
        bool | None, Meta(description="Whether each item lists the contributions to its score.")
    ] = False
    request_id: Annotated[Id | None, Meta(description="Echoed in the answer; generated if absent.")] = None
    consent: Annotated[
        bool | None, Meta(description="Whether personalization is permitted; absent: not stated here.")
    ] = None
    overrides: Annotated[
        dict[Id, Id] | None, Meta(description="Experiment arms forced for testing (needs the admin scope).")
    ] = None


class RequestDecoder:
    """Reads and checks a rank request.

    Args:
        settings: `max_candidates` and `max_id_bytes`.
    """

    def __init__(self, settings: Settings) -> None:
        self._decoder = msgspec.json.Decoder(RankRequest)
        self._max_candidates = settings.max_candidates
        self._max_id_bytes = settings.max_id_bytes

    def decode(self, body: bytes) -> RankRequest:
        """Decode and check a body.

        Raises:
            ApiError: 422, the body is malformed, too large or has duplicate items.
        """
        try:
            request = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise invalid_body(error, _STRUCTS, '{"candidates": [{"item_id": "i1"}]}') from error
        self._check_size(request)
        # In plain ASCII without escapes an id has as many bytes as characters, and those were checked.
        if not (body.isascii() and b"\\" not in body) or self._max_id_bytes < MAX_ID:
            self._check_ids(request)
        return request

    def _check_size(self, request: RankRequest) -> None:
        count = len(request.candidates)
        if count > self._max_candidates:
            limit = self._max_candidates
            message = f"candidates: {count} items; a request may hold {limit} (HEADRACE_MAX_CANDIDATES)"
            raise ApiError(422, "too_many_candidates", "candidates", message)
        if len(set(map(item_id_of, request.candidates))) != count:
            raise _duplicate(request)

    def _check_ids(self, request: RankRequest) -> None:
        for name in ("user_id", "session_id", "request_id"):
            value = getattr(request, name)
            if value is not None:
                self._check_id(value, name)
        # A character has at most four bytes, so only long ids need to be measured.
        if max(map(len, map(item_id_of, request.candidates)), default=0) * 4 <= self._max_id_bytes:
            return
        for index, candidate in enumerate(request.candidates):
            self._check_id(candidate.item_id, f"candidates[{index}].item_id")

    def _check_id(self, value: str, field: str) -> None:
        size = len(value.encode())
        if size > self._max_id_bytes:
            message = f"{field}: {size} bytes; an id has at most {self._max_id_bytes} (HEADRACE_MAX_ID_BYTES)"
            raise ApiError(422, "id_too_long", field, message)


def _duplicate(request: RankRequest) -> ApiError:
    seen: dict[str, int] = {}
    for index, candidate in enumerate(request.candidates):
        first = seen.setdefault(candidate.item_id, index)
        if first != index:
            field = f"candidates[{index}].item_id"
            message = f"{field}: the same item as candidates[{first}]; send each item once"
            return ApiError(422, "duplicate_item", field, message)
    raise AssertionError  # pragma: no cover - called only where the ids are not distinct


_CODES = (
    ("missing required field", "missing_field"),
    ("unknown field", "unknown_field"),
    (", got `", "wrong_type"),
    ("out of range", "not_finite"),
)


_STRUCTS: dict[str, type[Struct]] = {"candidates": Candidate, "": RankRequest}


def invalid_body(error: Exception, structs: Mapping[str, type[Struct]], example: str) -> ApiError:
    """Describe a decoding error: a code, the field, and what would be right.

    Args:
        error: raised while decoding.
        structs: structs of a body by the prefix of their path.
        example: a valid body.
    """
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        message = f"body: not valid JSON in UTF-8 ({text}); send one JSON object, e.g. {example}"
        return ApiError(422, "not_json", "", message)
    match = _FIELD_AT.search(text)
    field = match.group(1) if match else ""
    what = _FIELD_AT.sub("", text)
    code = next((code for part, code in _CODES if part in what), "bad_value")
    if named := re.search(r"(?:missing required|unknown) field `([^`]*)`", what):
        field = f"{field}.{named.group(1)}".lstrip(".")
    message = f"{field or 'body'}: {what[:1].lower()}{what[1:]}"
    if code == "unknown_field":
        struct = next(struct for start, struct in structs.items() if field.startswith(start))
        known = sorted(f.encode_name for f in msgspec.structs.fields(struct))
        message += f"; known are {', '.join(known)}"
    return ApiError(422, code, field, message)
