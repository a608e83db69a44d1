"""Reads log records from any producer: checks them, and rejects bad ones with a reason.

Others may write to Kafka and Redis Streams, so log records are held to the same contract as records at the
door. Every reader of the log applies these rules, so stream and lake accept the same records.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec
from msgspec import structs

from feature_repo.clock import wall_clock
from feature_repo.contract.reasons import to_utc
from feature_repo.contract.validation import (
    ID_BYTES,
    Contract,
    Event,
    Item,
    Record,
    User,
    as_permitted,
    decode,
)
from feature_repo.errors import ContractError
from feature_repo.settings import Settings

LATEST = datetime.fromtimestamp((1 << 32) - 1, UTC)
"""Latest event time that can be folded, because seen ids are stored with 32-bit seconds."""
_SHORT = ID_BYTES + 100
"""A record of at most this size has no id longer than `ID_BYTES`, as the rest of an event takes more."""
_CONTEXT = frozenset({"impression", "search"})


class LogEvent(Event, frozen=True, kw_only=True, tag="event"):
    """An event whose type is looked up, because matching a pattern would take half the decoding time."""

    event_type: str


LogRecord: TypeAlias = LogEvent | Item | User
_decode = msgspec.json.Decoder(LogRecord).decode


class LogRecords:
    """Decoder of log records.

    Args:
        settings: the bounds on event time and the registered event types; unregistered types pass, since they
            may have been registered after this process started. Default: the default settings.
        clock: the present, for the bound on the future. Setting it back does not tighten the bound.
    """

    def __init__(self, settings: Settings | None = None, clock: Callable[[], datetime] = wall_clock) -> None:
        settings = settings or Settings.model_construct()
        self._contract = Contract(settings, clock)
        self._earliest = settings.earliest_event_time
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._known = frozenset(settings.weights)
        self._plain = self._known - _CONTEXT

    def read(self, raw: bytes) -> Record:
        """Decode a record, with times in UTC.

        Raises:
            ContractError: it cannot be decoded (``not_a_record``) or breaks the contract.
        """
        try:
            record = _decode(raw)
        except Exception:
            return self._checked(_decoded(raw))
        if type(record) is LogEvent and record.event_type in self._plain and len(raw) <= _SHORT:
            time = record.event_time
            if record.item_id and time.tzinfo is UTC and self._earliest <= time <= self._latest:
                return record if record.consent is not False else as_permitted(record)
        if isinstance(record, Event) and record.event_type not in self._known:
            return self._checked(_decoded(raw))
        return self._checked(record)

    def _checked(self, record: Record) -> Record:
        if isinstance(record, Event):
            if record.event_time.tzinfo is not UTC:
                record = structs.replace(record, event_time=to_utc(record.event_time, "event_time"))
            self._contract.check(record, registered=False)
            if record.event_time > LATEST:
                msg = f"event_time: {record.event_time.isoformat()} is after {LATEST.isoformat()}"
                raise ContractError("time_out_of_range", "event_time", msg)
            self._latest = min(self._contract.latest, LATEST)
            return as_permitted(record)
        if isinstance(record, Item) and record.created_at is not None:
            record = structs.replace(record, created_at=to_utc(record.created_at, "created_at"))
        self._contract.check(record, registered=False)
        return record


def _decoded(raw: bytes) -> Record:
    try:
        return decode(raw)
    except ContractError as error:
        field, reason = error.field, str(error)
    except Exception as error:  # deep nesting, invalid UTF-8 or anything else a decoder may raise
        field, reason = "", f"{type(error).__name__}: {error}"
    msg = f"log record: {reason}"
    raise ContractError("not_a_record", field, msg)
