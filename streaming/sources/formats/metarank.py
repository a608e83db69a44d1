"""Metarank's event format: item, user, ranking and interaction events as JSON lines (also ``.gz``, ``.zip``).

The format is described at https://docs.metarank.ai/reference/event-schema; any Metarank user can ingest it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from feature_repo.contract.json_batch import as_json
from feature_repo.contract.reasons import shown, to_utc
from feature_repo.contract.validation import Kind
from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import InputFile
from streaming.sources.format import Format
from streaming.sources.source import Fields, Raw, Row, fields_of, object_rows, required

RELEVANCY = "relevancy"
"""Field of a ranking's item that holds its score."""
CATEGORY_FIELDS = ("genres", "genre", "categories", "category")
DATE_FIELDS = ("created_at", "release_date", "published_at", "publish_date", "created", "date")
SYNONYMS = {
    "buy": "purchase",
    "order": "purchase",
    "cart": "add_to_cart",
    "addtocart": "add_to_cart",
    "favorite": "like",
    "pageview": "view",
}
_ANY = frozenset({"event", "id", "timestamp", "tenant", "fields", "user", "session"})
_INTERACTION = _ANY | {"type", "item", "ranking"}
_RANKING = _ANY | {"items"}
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_EARLIEST = datetime(1800, 1, 1, tzinfo=UTC).timestamp()
_MS_FROM = 1e11  # larger numbers are milliseconds: as seconds they lie beyond the year 5000


class MetarankSource:
    """Rankings become impressions (the relevancy is the score, the ranking's id the request id), interactions
    become events of their type, items and users become records of those.

    Args:
        known: event types the contract knows. An interaction of any other type becomes a ``click`` with its
            own name in ``properties.type``; register the type to keep it apart.
    """

    event_types: ClassVar[Mapping[str, float]] = {}

    def __init__(self, known: Container[str]) -> None:
        self._known = known

    def files(self, path: InputFile) -> list[InputFile]:
        """One file."""
        if path.path.is_dir():
            msg = f"{path.path}: a folder; give the event file in it, e.g. events.jsonl.gz"
            raise SourceError(msg)
        return [path]

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Objects; empty lines are passed over."""
        return object_rows(file, "metarank")

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """One event of any of the four kinds."""
        event = fields_of(raw)
        match event.get("event"):
            case "item":
                return _item(event)
            case "user":
                return _user(event)
            case "ranking":
                return _ranking(event)
            case "interaction":
                return self._interaction(event)
        msg = f"event: {shown(event.get('event'))} is none of item, user, ranking, interaction"
        raise ContractError("bad_value", "event", msg)

    def _interaction(self, event: Fields) -> Raw:
        named = required(event, "type")
        kind = re.sub(r"[^a-z0-9]+", "_", named.lower()).strip("_")
        kind = SYNONYMS.get(kind, kind)
        properties = _properties(event, _INTERACTION)
        if kind not in self._known:
            properties["type"] = named
            kind = "click"
        fields = {**_common(event), "event_type": kind, "item_id": required(event, "item")}
        if event.get("ranking"):
            fields["request_id"] = event["ranking"]
        return {**fields, "properties": properties}


def _common(event: Fields) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "record": "event",
        "event_id": required(event, "id"),
        "event_time": _timestamp(event),
    }
    if event.get("user"):
        fields["user_id"] = event["user"]
    fields["session_id"] = event.get("session") or event.get("user") or fields["event_id"]
    return fields


def _ranking(event: Fields) -> Raw:
    slots = event.get("items")
    if not isinstance(slots, list):
        msg = 'items: a ranking lists what was shown, e.g. [{"id": "i1", "relevancy": 0.5}]'
        raise ContractError("missing_field", "items", msg)
    items = [_slot(slot, place) for place, slot in enumerate(slots)]
    properties = _properties(event, _RANKING)
    fields = {**_common(event), "event_type": "impression", "items": items}
    fields["request_id"] = fields["event_id"]
    if query := properties.pop("query", None):
        fields["query"] = query
    return {**fields, "properties": properties}


def _slot(slot: Any, place: int) -> dict[str, Any]:
    """An item shown; its score is a field of it, or as in older versions ``relevancy`` beside its id.

    Other fields stay with it, and the contract keeps them as text.
    """
    if not isinstance(slot, dict) or not slot.get("id"):
        msg = f"items: {shown(slot)} has no id"
        raise ContractError("missing_field", "items.id", msg)
    named = {str(name): value for name, value in slot.items() if name not in ("id", "fields", RELEVANCY)}
    named |= _fields(slot, f"items[{place}].fields")
    score = named.pop(RELEVANCY, None)
    return {
        **named,
        "item_id": slot["id"],
        "score": score if slot.get(RELEVANCY) is None else slot[RELEVANCY],
    }


def _item(event: Fields) -> Raw:
    values = {**_unnamed(event, _ANY | {"item"}), **_fields(event)}
    fields: dict[str, Any] = {"record": "item", "item_id": required(event, "item")}
    if isinstance(values.get("title"), str):
        fields["title"] = values.pop("title")
    for name in CATEGORY_FIELDS:
        if isinstance(values.get(name), str | list):
            found = values.pop(name)
            fields["categories"] = [c for c in ([found] if isinstance(found, str) else found) if c]
            break
    if isinstance(values.get("price"), int | float):
        fields["price"] = values.pop("price")
    for name in DATE_FIELDS:
        if (created := _date(values.get(name))) is not None:
            fields["created_at"] = created
            break
    return {**fields, "attributes": values}


def _user(event: Fields) -> Raw:
    values = {**_unnamed(event, _ANY), **_fields(event)}
    return {"record": "user", "user_id": required(event, "user"), "attributes": values}


def _fields(event: Fields, at: str = "fields") -> dict[str, Any]:
    """The named fields of an event or one of its items, as attributes may be: text, number, list of texts."""
    listed = event.get("fields") or []
    if not isinstance(listed, list) or not all(
        isinstance(f, dict) and isinstance(f.get("name"), str) and f["name"] for f in listed
    ):
        msg = f'{at}: must be a list of {{"name": ..., "value": ...}}'
        raise ContractError("wrong_type", at, msg)
    return {f["name"]: _value(f["value"]) for f in listed if f.get("value") is not None}


def _value(value: Any) -> Any:
    """Truth as text, and so the numbers and truths in a list; what fits no attribute the contract refuses."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return [
            str(v) if isinstance(v, int | float) and not isinstance(v, bool) else _value(v) for v in value
        ]
    return value


def _unnamed(event: Fields, known: Container[str]) -> dict[str, Any]:
    """Return the fields beside those of the format; Metarank has no place for them, and they are kept."""
    return {n: _value(v) for n, v in event.items() if n not in known and v is not None}


def _properties(event: Fields, known: Container[str]) -> dict[str, str]:
    texts = {
        name: value if isinstance(value, str) else as_json(value).decode()
        for name, value in {**_unnamed(event, known), **_fields(event)}.items()
    }
    return {**texts, **({"tenant": str(event["tenant"])} if event.get("tenant") else {})}


def _timestamp(event: Fields) -> Any:
    """Epoch milliseconds, as a number or its digits, or ISO 8601.

    Raises:
        ContractError: it is absent or neither.
    """
    value = event.get("timestamp")
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = required(event, "timestamp")
        value = int(value) if _DIGITS.fullmatch(value) else value
    return to_utc(value, "timestamp")


def _date(value: Any) -> datetime | None:
    """A plausible date: epoch seconds or milliseconds, or ISO 8601; else nothing."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and value:
            seconds = value / 1000 if abs(value) >= _MS_FROM else float(value)
            if seconds >= _EARLIEST:
                return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


FORMAT = Format("Metarank's event format: JSON lines.", MetarankSource)
