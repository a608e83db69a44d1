"""The door: good records into the log, bad ones into quarantine, each told by its index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import generate_latest

from feature_repo.contract.json_batch import Refused
from feature_repo.contract.validation import Contract, decode
from feature_repo.errors import ContractError, LakeError, LogError
from feature_repo.home import Home
from feature_repo.settings import Settings
from quality.quarantine.store import NOT_KEPT, Quarantine
from streaming.ingest.event_door import ACCEPTED, UNKNOWN_FIELDS, EventDoor, Rejection, count_unknown
from streaming.log import Keyed
from tests.support.records import CLICK


class ListLog:
    """A log that is a list; may be full."""

    def __init__(self) -> None:
        self.records: list[Keyed] = []
        self.full = False

    def publish(self, records: Sequence[Keyed]) -> None:
        if self.full:
            raise LogError("disk full")
        self.records += records


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
def quarantine(home: Home, clock: Callable[[], datetime]) -> Quarantine:
    return Quarantine(home.quarantine, clock)


@pytest.fixture
def door(settings: Settings, clock: Any, log: ListLog, quarantine: Quarantine) -> EventDoor:
    return EventDoor(Contract(settings, clock, count_unknown), log, quarantine)  # type: ignore[arg-type]


def test_records_of_all_kinds_are_keyed_for_the_log(door: EventDoor, log: ListLog) -> None:
    user = b'{"record": "user", "user_id": "u1"}'
    result = door.accept([CLICK, {"record": "item", "item_id": "i1"}, user], "http")
    assert (result.accepted, result.rejected) == (3, ())
    assert [key for key, _ in log.records] == ["s1", "i1", "u1"]
    assert [decode(raw).kind for _, raw in log.records] == ["event", "item", "user"]


def test_the_good_ones_pass_whatever_the_others_are(
    door: EventDoor, log: ListLog, quarantine: Quarantine
) -> None:
    result = door.accept([b"[1]", CLICK, {**CLICK, "item_id": None}], "http")
    assert result.accepted == 1
    assert len(log.records) == 1
    assert [(r.index, r.code, r.field) for r in result.rejected] == [
        (0, "not_an_object", ""),
        (2, "missing_field", "item_id"),
    ]
    assert isinstance(result.rejected[1], Rejection)
    assert "a click must name the item" in result.rejected[1].message
    kept = list(quarantine.entries())
    assert [(e.source, e.line, e.code) for e in kept] == [
        ("http", None, "not_an_object"),
        ("http", None, "missing_field"),
    ]
    assert kept[0].raw == b"[1]"


def test_a_kind_may_be_given_for_all(door: EventDoor, log: ListLog) -> None:
    fields = {k: v for k, v in CLICK.items() if k != "record"}
    assert door.accept([fields], "http", "event").accepted == 1
    assert door.accept([fields], "http").rejected[0].field == "record"


def test_nothing_good_publishes_nothing(door: EventDoor, log: ListLog) -> None:
    log.full = True
    assert door.accept([b"x"], "http").accepted == 0
    assert door.accept([], "http").accepted == 0


def test_a_full_log_acknowledges_nothing(door: EventDoor, log: ListLog) -> None:
    log.full = True
    before = ACCEPTED.labels("event")._value.get()
    with pytest.raises(LogError, match="disk full"):
        door.accept([CLICK], "http")
    assert ACCEPTED.labels("event")._value.get() == before
    log.full = False
    assert door.accept([CLICK], "http").accepted == 1
    assert ACCEPTED.labels("event")._value.get() == before + 1


def test_fields_the_contract_does_not_know_are_counted(door: EventDoor) -> None:
    counter = UNKNOWN_FIELDS.labels("event")
    before = counter._value.get()
    door.accept([{**CLICK, "brand_new": 1, "newer": 2}, CLICK], "http")
    assert counter._value.get() == before + 2


def test_names_that_clients_invent_do_not_show_in_the_metrics(door: EventDoor) -> None:
    before = len(list(UNKNOWN_FIELDS.collect()[0].samples))
    for number in range(300):
        door.accept([{**CLICK, f"jane.doe{number}@example.com": 1, "x" * 10_000: 1}], "http")
    count_unknown("user", ["another name"])
    text = generate_latest()
    assert b"example.com" not in text
    assert b"xxxx" not in text
    assert len(list(UNKNOWN_FIELDS.collect()[0].samples)) <= before + 4


class FullQuarantine(Quarantine):
    """A quarantine whose disk is full."""

    def put(self, *_: Any, **__: Any) -> bool:
        msg = "quarantine: cannot write (No space left on device)"
        raise LakeError(msg)


def test_a_quarantine_that_cannot_be_written_takes_nothing_from_the_good_records(
    settings: Settings, home: Home, log: ListLog, clock: Any
) -> None:
    full = FullQuarantine(home.quarantine, clock)
    door = EventDoor(Contract(settings, clock, count_unknown), log, full)  # type: ignore[arg-type]
    before = NOT_KEPT.labels("disk")._value.get()
    result = door.accept([CLICK, {"bad": 1}, b"{"], "http")
    assert (result.accepted, result.unkept, [r.index for r in result.rejected]) == (1, 2, [1, 2])
    assert len(log.records) == 1
    assert NOT_KEPT.labels("disk")._value.get() == before + 2


@pytest.mark.parametrize(
    "change",
    [{"event_id": "a\ud800"}, {"query": "\ud800"}, {"unknown\ud800": 1}, {"properties": {"x": "\ud800"}}],
)
def test_invalid_unicode_is_refused_and_kept(
    door: EventDoor, log: ListLog, quarantine: Quarantine, change: dict[str, Any]
) -> None:
    """Half a surrogate pair: JSON cannot bring it, a caller in Python can."""
    result = door.accept([{**CLICK, **change}, CLICK], "python")
    assert (result.accepted, [r.index for r in result.rejected]) == (1, [0])
    assert len(log.records) == quarantine.count() == 1
    assert b"\\ud800" in next(iter(quarantine.entries())).raw
    generate_latest().decode()


def test_a_record_refused_before_is_kept_as_it_came(
    door: EventDoor, log: ListLog, quarantine: Quarantine
) -> None:
    before = Refused(b'{"event": "dance"}', ContractError("bad_value", "event", "event: no such"), "metarank")
    result = door.accept([CLICK, before, {**CLICK, "event_id": "e2"}], "http")
    assert (result.accepted, len(log.records)) == (2, 2)
    assert [(r.index, r.code, r.field) for r in result.rejected] == [(1, "bad_value", "event")]
    (entry,) = quarantine.entries()
    assert (entry.raw, entry.format, entry.message) == (before.raw, "metarank", "event: no such")


@pytest.mark.parametrize("value", [math.inf, -math.inf, [math.nan], {"a": [math.inf]}])
def test_a_number_that_json_lacks_is_refused_and_not_kept_as_null(
    door: EventDoor, quarantine: Quarantine, clock: Any, value: Any
) -> None:
    """Kept as null it would be accepted at the next retry, as if nothing had been sent."""
    assert door.accept([{**CLICK, "size": value}], "python").accepted == 0
    (entry,) = quarantine.entries()
    with pytest.raises(ContractError):
        Contract(Settings(), clock).parse(entry.raw)
