"""Translates requests and answers of the Metarank API, so that Metarank clients can use this server.

The formats are those of https://docs.metarank.ai/reference/api. The model name is accepted and ignored,
because one blend serves. Pure; `serving/api/metarank.py` uses it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from feature_repo.contract.json_batch import Given, Refused, as_json
from feature_repo.contract.reasons import shown
from feature_repo.errors import ContractError
from serving.api.events import RejectedRecord
from serving.api.posted import values_of
from serving.schemas.errors import ApiError
from serving.schemas.rank_response import RankAnswer
from streaming.sources.formats.metarank import RELEVANCY, MetarankSource


class Slot(Struct, frozen=True):
    """One item of a request; fields Headrace does not use are ignored."""

    id: str
    relevancy: float | None = None
    fields: list[Field] | None = None


class Field(Struct, frozen=True):
    """A named field of a request or of one of its items."""

    name: str
    value: Any = None


class RankBody(Struct, frozen=True):
    """Body of ``POST /rank/{model}``."""

    id: str
    items: list[Slot]
    timestamp: str | int | None = None
    user: str | None = None
    session: str | None = None
    fields: list[Field] | None = None


class Feature(Struct, frozen=True):
    """The contribution of one part to an item's score."""

    name: str
    value: float


class Ranked(Struct, frozen=True, omit_defaults=True):
    """One item of an answer."""

    item: str
    score: float
    features: list[Feature] = []


class RankBack(Struct, frozen=True):
    """Answer of ``POST /rank/{model}``."""

    items: list[Ranked]
    took: int
    """Milliseconds."""


class FeedbackBack(Struct, frozen=True):
    """Answer of ``POST /feedback``. `updated` is 0: the stream updates features. `rejected` is an extra."""

    accepted: int
    status: str
    tookMillis: int
    updated: int = 0
    rejected: list[RejectedRecord] = []


_decoder = msgspec.json.Decoder(RankBody)


def to_request(body: bytes, *, explain: bool, most: int) -> bytes:
    """Translate a body of ``POST /rank/{model}`` to one of ``POST /v1/rank``.

    Args:
        most: maximum number of items in a request.

    Raises:
        ApiError: 422, the body is not a valid request.
    """
    try:
        asked = _decoder.decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        field = where.strip("`.")
        message = f"{field or 'body'}: {what}; a ranking is {{id, items: [{{id, relevancy}}], user, session}}"
        raise ApiError(422, "bad_value", field, message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"body: not valid JSON in UTF-8 ({error}); send one ranking as a JSON object"
        raise ApiError(422, "not_json", "", message) from error
    if len(asked.items) > most:
        message = f"items: {len(asked.items)} items; a request may hold {most} (HEADRACE_MAX_CANDIDATES)"
        raise ApiError(422, "too_many_candidates", "items", message)
    request: dict[str, Any] = {
        "request_id": asked.id,
        "candidates": [_candidate(index, slot) for index, slot in enumerate(asked.items)],
        "explain": explain,
    }
    if asked.user is not None:
        request["user_id"] = asked.user
    if (session := asked.session or asked.user) is not None:
        request["session_id"] = session
    query = _value(asked.fields, "query")
    if isinstance(query, str):
        request["query"] = query
    return msgspec.json.encode(request)


def _candidate(index: int, slot: Slot) -> dict[str, Any]:
    score: Any = _value(slot.fields, RELEVANCY) if slot.relevancy is None else slot.relevancy
    if score is None:
        return {"item_id": slot.id}
    if isinstance(score, bool) or not isinstance(score, int | float):
        field = f"items[{index}].fields"
        message = f"{field}: {RELEVANCY} {shown(score)} is not a number"
        raise ApiError(422, "wrong_type", field, message)
    return {"item_id": slot.id, "score": score}


def _value(fields: Sequence[Field] | None, name: str) -> Any:
    return next((field.value for field in fields or () if field.name == name), None)


def from_answer(answer: RankAnswer) -> RankBack:
    """Translate an answer of ``POST /v1/rank`` to one of ``POST /rank/{model}``."""
    return RankBack(
        items=[
            Ranked(i.item_id, i.score, [Feature(name, value) for name, value in (i.why or {}).items()])
            for i in answer.items
        ],
        took=round(answer.timings_ms.get("total", 0.0)),
    )


def to_records(body: bytes, known: Container[str]) -> list[Given]:
    """Translate a feedback body, one Metarank event or an array, to records for the events door.

    An event that cannot be translated is passed on unchanged with the reason, for the door to quarantine.

    Args:
        known: registered event types.

    Raises:
        ApiError: 422, the body is not JSON, neither an object nor an array, or holds too many events.
    """
    source = MetarankSource(known)
    return [_record(source, event) for event in values_of(body)]


def _record(source: MetarankSource, event: Any) -> Given:
    try:
        return source.convert(event if isinstance(event, dict) else as_json(event), None)
    except ContractError as error:
        return Refused(as_json(event), error, "metarank")
