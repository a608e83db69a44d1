"""What the stream's parts say when something is in the way, word for word, and what comes back after."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Event, Item, User, encode, to_arrow
from feature_repo.errors import ContractError, LakeError, LogError, SourceError, StoreError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from quality.quarantine.store import Quarantine
from streaming.dataflow.backfill import LakeLog, backfill_sessions
from streaming.ingest import quarantine_retry as retry_module
from streaming.ingest.lake_lookup import LakeLookup, id_of
from streaming.ingest.lake_writer import LakeWriter, SyncCounts
from streaming.ingest.parquet_folder import MAX_FILES, ParquetFolder
from streaming.ingest.quarantine_retry import NOT_RECORDS, RetryCounts, retry
from streaming.log import open_log
from streaming.log.appender import MAX_RECORD_BYTES
from streaming.log.partition import Partition
from streaming.sessions.heartbeat import PREFIX, read_heartbeats
from tests.conftest import NOW

DAY = date(2024, 5, 30)
T0 = datetime(2024, 5, 30, tzinfo=NOW.tzinfo)


def click(number: int, at: datetime = T0) -> Event:
    return Event(event_id=f"e{number}", event_type="click", event_time=at, session_id="s", item_id="i")


def fill(lake: Lake, events: list[Event]) -> Path:
    folder = lake.events_of(events[0].event_time.date())
    folder.mkdir(parents=True)
    path = folder / "part-00000000.parquet"
    pq.write_table(to_arrow("event", events, NOW), path)
    return path


# What comes back from quarantine


def reject(home: Home, raw: bytes, code: str, line: int = 1) -> None:
    Quarantine(home.quarantine, lambda: NOW).put(raw, "a.jsonl", line, ContractError(code, "", code))


def in_log(settings: Settings, home: Home) -> list[bytes]:
    log = open_log(settings, home)
    try:
        return [r for n in range(log.partitions) for r in log.read(n, log.start(n), 1000).records]
    finally:
        log.close()


@pytest.mark.parametrize("code", sorted(NOT_RECORDS))
def test_part_of_a_file_is_not_a_record_even_if_it_reads_like_one(
    settings: Settings, home: Home, code: str
) -> None:
    """The end of a file that was cut may be half an event that parses; its source is to be mended."""
    reject(home, encode(click(1)), code)
    assert retry(settings) == RetryCounts(skipped=1)
    assert in_log(settings, home) == []
    assert Quarantine(home.quarantine, lambda: NOW).count(pending=True) == 1


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_portions_of_any_size_bring_back_each_record_once(
    settings: Settings, home: Home, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(retry_module, "_AT_ONCE", at_once)
    for n in range(6):
        reject(home, encode(click(n)) if n % 2 else b'{"record": "event"}', "unknown_event_type", n)
    reject(home, b"{", "truncated_file", 7)
    found = retry(settings)
    assert found == RetryCounts(replayed=3, failed=3, skipped=1)
    assert found.total == 7
    assert sorted(in_log(settings, home)) == sorted(encode(click(n)) for n in (1, 3, 5))
    assert retry(settings) == RetryCounts(failed=3, skipped=1)
    assert len(in_log(settings, home)) == 3


def test_only_what_was_asked_for_comes_back(settings: Settings, home: Home) -> None:
    for n, code in enumerate(["unknown_event_type", "time_out_of_range"]):
        reject(home, encode(click(n)), code, n)
    assert retry(settings, code="time_out_of_range") == RetryCounts(replayed=1)
    assert in_log(settings, home) == [encode(click(1))]
    [left] = Quarantine(home.quarantine, lambda: NOW).entries(pending=True)
    other = "0" if left.id[0] != "0" else "1"
    assert retry(settings, prefix=other).total == 0
    assert retry(settings, prefix=left.id[:6]) == RetryCounts(replayed=1)


def test_counts_add_up_field_by_field() -> None:
    assert RetryCounts(1, 2, 3) + RetryCounts(10, 20, 30) == RetryCounts(11, 22, 33)
    one = SyncCounts(1, 2, 3, 4, 5, frozenset({DAY}))
    other = SyncCounts(10, 20, 30, 40, 50, frozenset({date(2024, 6, 1)}))
    assert one + other == SyncCounts(11, 22, 33, 44, 55, one.days | other.days)


# Lookups in the lake


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose DuckDB believes to be in New York."""
    real = duckdb.connect

    def connect(*args: Any, **more: Any) -> Any:
        con = real(*args, **more)
        con.execute("SET TimeZone = 'America/New_York'")
        return con

    monkeypatch.setattr(duckdb, "connect", connect)


@pytest.mark.usefixtures("elsewhere")
def test_days_are_utc_in_every_machine_zone(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    late = click(1, T0 + timedelta(minutes=1))  # still the day before in New York
    fill(lake, [late])
    lookup = LakeLookup(lake)
    assert lookup.known_ids([late, click(2, late.event_time)]) == {(DAY, "e1")}
    lookup.close()


def test_a_lookup_that_was_closed_holds_no_connection(tmp_path: Path) -> None:
    lookup = LakeLookup(Lake(tmp_path))
    lookup.close()
    with pytest.raises(duckdb.Error):
        lookup._con.sql("SELECT 1")


def test_each_kind_has_its_own_key() -> None:
    records = [click(7), Item(item_id="hat"), User(user_id="anna")]
    assert [id_of(record) for record in records] == ["e7", "hat", "anna"]


# What blocks the way is named


class Marks:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def marks(self, prefix: str) -> dict[str, bytes]:
        return {f"{prefix}0003": self.raw}


@pytest.mark.parametrize(("raw", "why"), [(b"{", "truncated"), (b"[]", "Expected `object`, got `array`")])
def test_a_mark_that_is_not_a_heartbeat(raw: bytes, why: str) -> None:
    with pytest.raises(StoreError) as caught:
        read_heartbeats(Marks(raw))  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"online store: mark '{PREFIX}0003' is no heartbeat (")
    assert why in message
    assert message.endswith("; restart the stream to renew it")


def test_a_day_of_the_lake_that_cannot_be_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, [click(1)]).write_bytes(b"PAR1 cut")
    log = LakeLog(lake, DAY, DAY + timedelta(days=1), lambda day: None)
    with pytest.raises(LakeError) as caught:
        log.read(0, "0", 10)
    message = str(caught.value)
    assert message.startswith("lake: events of 2024-05-30 cannot be read (")
    assert "Parquet" in message
    assert message.endswith("); ingest the day again")


def test_the_lake_as_a_log_is_read_forward_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, [click(n) for n in range(3)])
    log = LakeLog(lake, DAY, DAY + timedelta(days=1), lambda day: None)
    first = log.read(0, log.start(0), 2)
    assert (len(first.records), first.position) == (2, "2")
    with pytest.raises(LakeError, match=r"^lake: read from 0 where 2 is next; a lake is read forward once$"):
        log.read(0, "0", 2)
    assert log.read(0, first.position, 2).records == [encode(click(2))]


def test_a_backfill_of_days_the_lake_does_not_hold(settings: Settings, home: Home) -> None:
    asked = (date(2024, 1, 1), date(2024, 1, 2))
    with pytest.raises(SourceError) as caught:
        backfill_sessions(settings, *asked)
    lead = f"{home.lake}: no events of 2024-01-01 … 2024-01-02; the lake holds "
    assert str(caught.value) == f"{lead}no day at all. Ingest first"
    fill(Lake(home.lake), [click(1)])
    with pytest.raises(SourceError) as caught:
        backfill_sessions(settings, *asked)
    assert str(caught.value) == f"{lead}2024-05-30 … 2024-05-30. Ingest first"


@pytest.fixture
def writer(settings: Settings, home: Home) -> Iterator[LakeWriter]:
    log = open_log(settings, home)
    yield LakeWriter(Lake(home.lake), log, lambda: NOW, home.root / "sync" / "state.json")
    log.close()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "Expecting property name"),
        ("{}", "'positions'"),
        ('{"positions": {"x": "0"}}', "invalid literal"),
    ],
)
def test_a_damaged_state_of_the_lake_writer(writer: LakeWriter, home: Home, content: str, why: str) -> None:
    state = home.root / "sync" / "state.json"
    state.parent.mkdir()
    state.write_text(content)
    with pytest.raises(LakeError) as caught:
        writer.sync()
    message = str(caught.value)
    assert message.startswith(f"{state}: damaged (")
    assert why in message
    assert message.endswith("); delete it: the log is then read again from its start")


def test_a_lake_that_cannot_be_written(writer: LakeWriter, settings: Settings, home: Home) -> None:
    log = open_log(settings, home)
    log.publish([("s", encode(click(1)))])
    log.close()
    home.lake.write_text("a file where the folder belongs")
    with pytest.raises(LakeError) as caught:
        writer.sync()
    message = str(caught.value)
    assert message.startswith(f"lake {home.lake}: cannot write (")
    assert message.endswith("); free space, or point HEADRACE_HOME elsewhere")
    home.lake.unlink()
    assert writer.sync().events == 1, "nothing was lost by it"


def test_unsuitable_columns_are_reported(tmp_path: Path) -> None:
    times = pa.array([T0], pa.timestamp("us", "UTC"))
    for n in range(MAX_FILES):
        ParquetFolder(tmp_path).add(pa.table({"n": [n], "event_time": times}))
    with pytest.raises(LakeError) as caught:
        ParquetFolder(tmp_path).add(pa.table({"n": [["a"]], "event_time": times}))
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert "n" in str(caught.value).removeprefix(f"{tmp_path}: ").split()


def test_a_record_too_large_for_the_log(tmp_path: Path) -> None:
    log = Partition(tmp_path / "p", 1000)
    with pytest.raises(LogError) as caught:
        log.append([b"x" * (MAX_RECORD_BYTES + 1)])
    assert str(caught.value) == (
        f"{tmp_path / 'p'}: a record of {MAX_RECORD_BYTES + 1} bytes; at most {MAX_RECORD_BYTES}"
    )
    log.append([b"small"])
    assert log.read(log.start(), 10).records == [b"small"]
    log.close()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "disk full: free space, or point HEADRACE_HOME at a larger disk"),
        (errno.EDQUOT, "quota used up: free space, or point HEADRACE_HOME at a larger disk"),
        (errno.EACCES, "not permitted: point HEADRACE_HOME at a folder this user may write to"),
        (errno.EPERM, "not permitted: point HEADRACE_HOME at a folder this user may write to"),
        (errno.EROFS, "read-only file system: point HEADRACE_HOME at a writable one"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_keeps_the_log_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    log = Partition(tmp_path / "p", 1000)
    log.append([b"before"])

    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(LogError) as caught:
        log.append([b"refused"])
    monkeypatch.undo()
    assert str(caught.value).startswith(f"event log {tmp_path / 'p'}: cannot ")
    assert str(caught.value).endswith(f"; {remedy}")
    log.append([b"after"])
    assert log.read(log.start(), 10).records == [b"before", b"after"]
    log.close()


def test_nothing_of_a_backfill_is_left_where_a_day_is_damaged(settings: Settings, home: Home) -> None:
    """Not a stack trace of Arrow: the day is named."""
    path = fill(Lake(home.lake), [click(1)])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(LakeError, match="2024-05-30"):
        backfill_sessions(settings, DAY, DAY)
    assert list(home.features.rglob("*.parquet")) == []


def test_the_newest_item_wins_though_the_clock_went_back(settings: Settings, home: Home) -> None:
    log = open_log(settings, home)
    hours = iter([5, 5, 5, 2, 2, 2, 9, 9, 9])
    lake, state = Lake(home.lake), home.root / "sync" / "state.json"
    writer = LakeWriter(lake, log, lambda: T0 + timedelta(hours=next(hours)), state)
    for price in (1.0, 2.0, 3.0):
        log.publish([("hat", encode(Item(item_id="hat", price=price)))])
        assert writer.sync() == SyncCounts(items=1)
    lookup = LakeLookup(lake)
    assert lookup.newest("item", ["hat"])["hat"]["price"] == 3.0
    stamps = [t for file in lake.files("item") for t in pq.read_table(file)["ingested_at"].to_pylist()]
    assert len(set(stamps)) == 3, "no two are of one time: the newest could not be told"
    lookup.close()
    log.close()


def test_what_a_sync_counts_adds_up_to_what_was_in_the_log(
    writer: LakeWriter, settings: Settings, home: Home
) -> None:
    log = open_log(settings, home)
    hat, anna = Item(item_id="hat", price=1.0), User(user_id="anna")
    log.publish([("s", encode(r)) for r in (click(1), click(1), click(2), hat, hat, anna, anna)])
    log.publish([("s", b"{")])
    log.close()
    days = frozenset({DAY})
    first = writer.sync()
    # Of an item said twice in one portion the later counts; the earlier is superseded, not a duplicate.
    assert (first.events, first.items, first.users, first.quarantined, first.days) == (2, 1, 1, 1, days)
    assert first.duplicates == 1
    log = open_log(settings, home)
    log.publish([("s", encode(r)) for r in (click(1), hat, anna, User(user_id="ben"))])
    log.close()
    assert writer.sync() == SyncCounts(users=1, duplicates=3)
    assert writer.sync() == SyncCounts()
