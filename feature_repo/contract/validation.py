"""Event contract v1: validation at every door, the canonical bytes, the published JSON Schema.

The structs of `feature_repo.contract.records` are the only declaration; validation (`Contract.parse`), Arrow
schemas (`feature_repo.contract.columns`) and JSON Schema (`json_schema`) derive from them. Import everything
from this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from feature_repo.contract.canonical import as_written, decode, encode
from feature_repo.contract.columns import arrow_schema, from_arrow, to_arrow
from feature_repo.contract.fields import check_exact, check_finite, drop_nulls, keep_unknown
from feature_repo.contract.json_schema import json_schema
from feature_repo.contract.reasons import cut, explain, json_type, key, not_json, shown, to_utc
from feature_repo.contract.records import (
    ID_BYTES,
    RECORD_TYPES,
    SCHEMA_VERSION,
    TIME_FIELDS,
    Attribute,
    Event,
    Id,
    Item,
    Kind,
    Record,
    ShownItem,
    Time,
    User,
)
from feature_repo.errors import ContractError
from feature_repo.settings import Settings

__all__ = [
    "Contract",
    "Event",
    "Item",
    "User",
    "ShownItem",
    "Record",
    "Kind",
    "Attribute",
    "Id",
    "Time",
    "ID_BYTES",
    "RECORD_TYPES",
    "SCHEMA_VERSION",
    "TIME_FIELDS",
    "encode",
    "decode",
    "json_schema",
    "as_permitted",
    "json_type",
    "not_json",
    "arrow_schema",
    "to_arrow",
    "from_arrow",
]

R = TypeVar("R", bound=Record)

_decoder = msgspec.json.Decoder()

NAMES_TOLD = 100
"""Maximum number of one record's unknown fields reported by name; all are kept."""


class Contract:
    """Validation at the door: the structs define shape, the settings meaning.

    Args:
        settings: registered event types and the bounds on event time.
        clock: the present, for the bound on the future.
        on_unknown: called with the kind and the names of unknown fields of each accepted record, at most
            `NAMES_TOLD` per record.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], datetime],
        on_unknown: Callable[[Kind, Sequence[str]], None] | None = None,
    ) -> None:
        self.weights: Mapping[str, float] = settings.weights
        self._on_unknown = on_unknown
        self._clock = clock
        self._earliest = settings.earliest_event_time
        self._tolerance = timedelta(seconds=settings.future_tolerance_s)
        self._latest = datetime.min.replace(tzinfo=UTC)

    def parse(self, raw: bytes | str | Mapping[str, Any], kind: Kind | None = None) -> Record:
        """Validate one record.

        Args:
            raw: JSON text, or the decoded object.
            kind: the kind, if the source has only one; otherwise the object's ``record`` names it.

        Returns:
            the record. Nulls are absent, and unknown fields are kept in ``properties`` (events) or
            ``attributes`` (items, users) as text. The query of an event that denies consent is left out.

        Raises:
            ContractError: with a stable code, the field, and a valid form.
        """
        if not isinstance(raw, Mapping) and (record := as_written(raw, kind)) is not None:
            self.check(record)
            return as_permitted(record)
        fields = self._object(raw)
        kind = _kind(fields, kind)
        fields["record"] = kind
        unknown = keep_unknown(fields, kind, strict=True)
        drop_nulls(fields)
        for name in TIME_FIELDS[kind]:
            if name in fields:
                fields[name] = to_utc(fields[name], name)
        check_exact(fields)
        record = _converted(fields, kind, unknown)
        self.check(record)
        if unknown and self._on_unknown is not None:
            self._on_unknown(kind, list(map(cut, unknown[:NAMES_TOLD])))
        return as_permitted(record)

    def _object(self, raw: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(raw, Mapping):
            return dict(raw)
        try:
            value = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise not_json(raw, error) from error
        if not isinstance(value, dict):
            msg = f"a JSON {json_type(value)} where an object belongs; write one JSON object per line"
            raise ContractError("not_an_object", "", msg)
        return value

    @property
    def latest(self) -> datetime:
        """The last bound on the future; before the first event, the beginning of time."""
        return self._latest

    def check(self, record: Record, *, registered: bool = True) -> None:
        """Check what the structs cannot express, for a decoded record with times in UTC.

        Args:
            registered: reject event types that the settings do not know, and searches without a query. At the
                door every search has one; in the log, that of a user who denies consent has none.

        Raises:
            ContractError: with a stable code, the field, and a valid form.
        """
        for name in ("event_id", "session_id", "user_id", "item_id", "request_id"):
            value = getattr(record, name, None)
            if value is not None and len(value) * 4 > ID_BYTES and len(value.encode()) > ID_BYTES:
                msg = f"{name}: {len(value.encode())} bytes; an id has at most {ID_BYTES}"
                raise ContractError("id_too_long", name, msg)
        if isinstance(record, Event):
            self._check_event(record, registered)
        else:
            _check_numbers(record)

    def _check_event(self, event: Event, registered: bool) -> None:
        if registered and event.event_type not in self.weights:
            msg = (
                f"event_type: {event.event_type!r} is not registered; known are "
                f"{', '.join(sorted(self.weights))}; register it: HEADRACE_EVENT_WEIGHTS={event.event_type}=1"
            )
            raise ContractError("unknown_event_type", "event_type", msg)
        if event.event_time > self._latest:
            # Read the clock only here: it costs as much as all other checks together.
            self._latest = max(self._latest, self._clock() + self._tolerance)
        if not self._earliest <= event.event_time <= self._latest:
            latest = self._latest
            msg = (
                f"event_time: {event.event_time.isoformat()} is outside "
                f"{self._earliest.isoformat()} … {latest.isoformat(timespec='seconds')}; "
                "send UTC ISO 8601 or epoch milliseconds (not seconds)"
            )
            raise ContractError("time_out_of_range", "event_time", msg)
        if event.event_type == "impression":
            if not event.items:
                msg = 'items: an impression must list what was shown, e.g. [{"item_id": "i1"}]'
                raise ContractError("missing_field", "items", msg)
            for slot in event.items:
                if slot.score is not None and not math.isfinite(slot.score):
                    msg = f"items.score: {slot.score} of {slot.item_id!r} is not a finite number"
                    raise ContractError("not_finite", "items.score", msg)
        elif event.event_type == "search":
            left_out = event.query == "" and not registered
            if not event.query and event.consent is not False and not left_out:
                msg = "query: a search must say what was asked"
                raise ContractError("missing_field", "query", msg)
        elif event.item_id is None:
            msg = f"item_id: a {event.event_type} must name the item acted on"
            raise ContractError("missing_field", "item_id", msg)


def _check_numbers(record: Item | User) -> None:
    for name, value in record.attributes.items():
        if isinstance(value, float):
            check_finite(key("attributes", name), value)
    if isinstance(record, Item):
        check_finite("price", record.price)


def _converted(fields: Mapping[str, Any], kind: Kind, unknown: Sequence[str]) -> Record:
    try:
        record = msgspec.convert(fields, RECORD_TYPES[kind])
        encode(record)  # a JSON escape may give half a surrogate pair, which is not UTF-8
    except msgspec.ValidationError as error:
        raise explain(error, unknown, fields) from error
    except UnicodeEncodeError as error:
        field = next((cut(name) for name, value in fields.items() if not _is_unicode(value)), "")
        msg = f"{field}: not Unicode text ({error.reason}): half a surrogate pair; send whole characters"
        raise ContractError("not_utf8", field, msg) from error
    return record


def _is_unicode(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    except (TypeError, ValueError, OverflowError, RecursionError):  # another fault, reported elsewhere
        return True
    return True


def as_permitted(record: R, denying: Container[str | None] = ()) -> R:
    """Return the record without its query, which a denial of consent does not permit to keep.

    A search gets an empty query, because it must have one.

    Args:
        denying: users known to deny, whatever the event says.
    """
    if not isinstance(record, Event) or (record.consent is not False and record.user_id not in denying):
        return record
    query = "" if record.event_type == "search" else None
    return record if record.query == query else msgspec.structs.replace(record, query=query)


def _kind(fields: dict[str, Any], kind: Kind | None) -> Kind:
    named = fields.get("record")
    named = kind if named is None else named
    if not isinstance(named, str) or named not in RECORD_TYPES:
        msg = f'record: {shown(named)}; each object says what it is with "record": "event", "item" or "user"'
        raise ContractError("missing_field" if named is None else "bad_value", "record", msg)
    if kind is not None and named != kind:
        msg = f"record: {named!r} in a file of {kind}s"
        raise ContractError("bad_value", "record", msg)
    return named
