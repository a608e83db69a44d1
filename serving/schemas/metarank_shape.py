"""The Metarank shape: its requests and answers translated, so that its users can point their client here.

The formats are those of https://docs.metarank.ai/reference/api. The model's name is accepted and means
nothing here: one blend serves. Pure; `serving/api/metarank.py` uses it.
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
    """What a part adds to an item's score."""

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
    """Answer of ``POST /feedback``; `updated` is 0: features follow by the stream. `rejected` is ours."""

    accepted: int
    status: str
    tookMillis: int
    updated: int = 0
    rejected: list[RejectedRecord] = []


_decoder = msgspec.json.Decoder(RankBody)


def to_request(body: bytes, *, explain: bool, most: int) -> bytes:
    """The body of ``POST /v1/rank`` for that of ``POST /rank/{model}``.

    Args:
        most: items a request may hold.

    Raises:
        ApiError: 422, the body is no such request.
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
        message = f"{field}: {RELEVANCY} {shown(score)} is no number"
        raise ApiError(422, "wrong_type", field, message)
    return {"item_id": slot.id, "score": score}


def _value(fields: Sequence[Field] | None, name: str) -> Any:
    return next((field.value for field in fields or () if field.name == name), None)


def from_answer(answer: RankAnswer) -> RankBack:
    """The answer of ``POST /rank/{model}`` for one of ``POST /v1/rank``."""
    return RankBack(
        items=[
            Ranked(i.item_id, i.score, [Feature(name, value) for name, value in (i.why or {}).items()])
            for i in answer.items
        ],
        took=round(answer.timings_ms.get("total", 0.0)),
    )


def to_records(body: bytes, known: Container[str]) -> list[Given]:
    """Records for the events door from a feedback body: one Metarank event or an array of them.

    What cannot be translated is handed on as it came with the reason, for the door to quarantine.

    Args:
        known: registered event types.

    Raises:
        ApiError: 422, the body is no JSON, neither object nor array, or holds too many events.
    """
    source = MetarankSource(known)
    return [_record(source, event) for event in values_of(body)]


def _record(source: MetarankSource, event: Any) -> Given:
    try:
        return source.convert(event if isinstance(event, dict) else as_json(event), None)
    except ContractError as error:
        return Refused(as_json(event), error, "metarank")
