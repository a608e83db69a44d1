"""Log → lake: once each, by event day, whatever is repeated, killed or damaged."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.contract.columns import FACTS
from feature_repo.contract.validation import Event, Item, Record, User, encode, from_arrow
from feature_repo.errors import LakeError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake, duckdb_backend, numbered, read_tables
from quality.quarantine.store import Quarantine
from streaming.ingest.lake_state import SyncState
from streaming.ingest.lake_writer import LakeWriter, SyncCounts
from streaming.ingest.parquet_folder import KEEP_SUPERSEDED_S, MAX_FILES, ParquetFolder
from streaming.log import EventLog, key_of, partition_of
from streaming.log.segment_log import SegmentLog

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
DAY = date(2024, 5, 30)


def event(number: int, day: int = 0, minute: int = 0) -> Event:
    time = datetime(2024, 5, 30, tzinfo=UTC) + timedelta(days=day, minutes=minute)
    return Event(
        event_id=f"e{number}", event_type="click", event_time=time, session_id=f"s{number % 7}", item_id="i"
    )


class Bench:
    """A log, a lake and their writer."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.log: EventLog = SegmentLog(home.log / "events", 2, "never")
        self.lake = Lake(home.lake)
        self.quarantine = Quarantine(home.quarantine, lambda: NOW)
        self.now = NOW

    @property
    def writer(self) -> LakeWriter:
        return LakeWriter(
            self.lake, self.log, lambda: self.now, self.home.lake / "state.json", self.quarantine
        )

    def publish(self, *records: Record) -> None:
        self.log.publish([(key_of(r), encode(r)) for r in records])

    def sync(self, *records: Record) -> SyncCounts:
        self.publish(*records)
        return self.writer.sync()

    def rows(self, kind: Any = "event") -> list[dict[str, Any]]:
        return [row for name in self.lake.files(kind) for row in pq.read_table(name).to_pylist()]

    def events(self) -> list[str]:
        return sorted(row["event_id"] for row in self.rows())

    def newest(self, kind: str) -> dict[str, Record]:
        with duckdb_backend("256MB", 1, self.home.root / "spill") as con:
            tables = read_tables(con, self.lake, NOW, timedelta(days=30))
            rows = getattr(tables, f"{kind}s").to_pyarrow().to_pylist()
        return {row[f"{kind}_id"]: from_arrow(kind, row) for row in rows}  # type: ignore[arg-type]


@pytest.fixture
def bench(home: Home) -> Iterator[Bench]:
    made = Bench(home)
    yield made
    made.log.close()


def test_events_stand_under_their_day_in_order(bench: Bench) -> None:
    counts = bench.sync(event(2, minute=5), event(1, day=1), event(3, minute=1))
    assert counts == SyncCounts(events=3, days=frozenset({DAY, date(2024, 5, 31)}))
    assert bench.lake.days() == [DAY, date(2024, 5, 31)]
    (file,) = bench.lake.files_of(DAY)
    assert [row["event_id"] for row in pq.read_table(file).to_pylist()] == ["e3", "e2"]


def test_nothing_new_is_nothing(bench: Bench) -> None:
    assert bench.writer.sync() == SyncCounts()
    bench.sync(event(1))
    assert bench.writer.sync() == SyncCounts()


def test_a_day_that_comes_twice_in_halves_and_late_is_whole_in_the_end(bench: Bench) -> None:
    first, second = [event(n) for n in range(10)], [event(n) for n in range(5, 20)]
    assert bench.sync(*first).events == 10
    bench.sync(*(event(n, day=3) for n in range(100, 103)))  # three days pass
    assert bench.sync(*second) == SyncCounts(events=10, duplicates=5, days=frozenset({DAY}))
    assert bench.sync(*first, *second) == SyncCounts(duplicates=25)
    assert bench.events() == sorted([f"e{n}" for n in range(20)] + ["e100", "e101", "e102"])


def test_repeats_within_one_batch_count_once(bench: Bench) -> None:
    assert bench.sync(event(1), event(1, minute=3), event(1, day=1)) == SyncCounts(
        events=2, duplicates=1, days=frozenset({DAY, date(2024, 5, 31)})
    )


def test_a_crash_before_the_state_is_written_repeats_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    bench.publish(*(event(n, day=n % 3) for n in range(30)), Item(item_id="i", title="a"))
    monkeypatch.setattr(SyncState, "save", die)
    with pytest.raises(KeyboardInterrupt):
        bench.writer.sync()
    monkeypatch.undo()
    assert bench.sync(event(99)) == SyncCounts(events=1, duplicates=31, days=frozenset({DAY}))
    assert bench.events() == sorted([f"e{n}" for n in range(30)] + ["e99"])
    assert len(bench.rows("item")) == 1


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    batches=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=15), min_size=1, max_size=6),
    deaths=st.sets(st.integers(0, 12), max_size=4),
)
def test_killed_at_any_file_the_next_run_completes(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    batches: list[list[int]],
    deaths: set[int],
) -> None:
    bench = Bench(Home(tmp_path_factory.mktemp("home")))
    writes, real = 0, ParquetFolder._write

    def dying(self: ParquetFolder, table: Any, name: str) -> None:
        nonlocal writes
        writes += 1
        if writes in deaths:
            raise KeyboardInterrupt
        real(self, table, name)

    monkeypatch.setattr(ParquetFolder, "_write", dying)
    for batch in batches:
        bench.publish(*(event(n, day=n % 4) for n in batch))
        try:
            bench.writer.sync()
        except KeyboardInterrupt:
            continue
    monkeypatch.setattr(ParquetFolder, "_write", real)
    bench.writer.sync()
    assert bench.events() == sorted({f"e{n}" for batch in batches for n in batch})
    bench.log.close()


def test_the_newest_item_wins_and_an_identical_one_is_a_duplicate(bench: Bench) -> None:
    old, new = (
        Item(item_id="i", title="old", attributes={"a": ["x"], "n": 1.0}),
        Item(item_id="i", title="new"),
    )
    other = User(user_id="u", attributes={"segment": ["gold"]})
    assert bench.sync(old, other) == SyncCounts(items=1, users=1)
    assert bench.sync(old, other) == SyncCounts(duplicates=2)
    assert bench.newest("item") == {"i": old}
    assert bench.sync(new) == SyncCounts(items=1)  # the clock does not move, yet it is the newer one
    assert bench.newest("item") == {"i": new}
    assert bench.sync(old) == SyncCounts(items=1)
    assert bench.newest("item") == {"i": old}
    assert bench.newest("user") == {"u": other}


def test_of_several_records_of_an_item_in_one_batch_the_last_wins(bench: Bench) -> None:
    versions = [Item(item_id="i", title=f"v{n}") for n in range(4)]
    assert bench.sync(*versions) == SyncCounts(items=1)
    assert bench.newest("item") == {"i": versions[-1]}


def test_a_clock_that_jumps_back_does_not_bring_an_old_item_back(bench: Bench) -> None:
    bench.sync(Item(item_id="i", title="old"))
    bench.now = NOW - timedelta(days=1)
    bench.sync(Item(item_id="i", title="new"))
    newest = bench.newest("item")["i"]
    assert isinstance(newest, Item)
    assert newest.title == "new"


def test_many_small_syncs_make_few_files_and_lose_nothing(bench: Bench) -> None:
    for n in range(3 * MAX_FILES):
        bench.sync(event(n, minute=n % 5), Item(item_id=f"i{n % 3}", title=f"v{n}"))
        assert len(bench.lake.files_of(DAY)) <= MAX_FILES
    assert bench.events() == sorted(f"e{n}" for n in range(3 * MAX_FILES))
    items = {item_id: record.title for item_id, record in bench.newest("item").items()}  # type: ignore[union-attr]
    assert items == {"i0": "v21", "i1": "v22", "i2": "v23"}


def test_a_reader_that_listed_files_before_a_merge_can_still_read_them(bench: Bench) -> None:
    for n in range(MAX_FILES):
        bench.sync(event(n))
    listed = bench.lake.files_of(DAY)
    bench.sync(event(MAX_FILES))
    assert len(bench.lake.files_of(DAY)) == 1
    assert sum(pq.read_metadata(name).num_rows for name in listed) == MAX_FILES


def test_merged_files_are_removed_after_a_while(bench: Bench) -> None:
    folder = bench.lake.events_of(DAY)
    for n in range(MAX_FILES + 1):
        bench.sync(event(n))
    merged = [p for p in folder.glob("*.parquet") if numbered(p)[0] == "part"]
    assert len(merged) == MAX_FILES + 1
    for path in folder.glob("*.parquet"):
        os.utime(path, (path.stat().st_mtime - KEEP_SUPERSEDED_S - 1,) * 2)
    (folder / ".part-00000099.parquet.tmp").touch()
    os.utime(folder / ".part-00000099.parquet.tmp", (0, 0))
    for n in range(100, 100 + MAX_FILES):
        bench.sync(event(n))
    assert not any(p.exists() for p in merged)
    assert not list(folder.glob(".*.tmp"))
    assert len(bench.events()) == 2 * MAX_FILES + 1


def test_prune_removes_days_that_lie_back(bench: Bench) -> None:
    bench.sync(*(event(n, day=n) for n in range(-5, 3)))
    newest = bench.lake.days()[-1]
    assert bench.writer.prune(timedelta(days=2)) == 5
    assert bench.lake.days() == [newest - timedelta(days=2), newest - timedelta(days=1), newest]
    assert bench.writer.prune(timedelta(days=2)) == 0


def test_a_damaged_parquet_file_is_named(bench: Bench) -> None:
    bench.sync(event(1))
    (name,) = bench.lake.files_of(DAY)
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])
    bench.publish(event(2))
    with pytest.raises(LakeError, match=rf"{name}: damaged Parquet file .*; move it away"):
        bench.writer.sync()
    Path(name).unlink()
    assert bench.writer.sync().events == 1


def test_a_damaged_record_of_the_log_goes_to_quarantine_with_file_and_offset(
    bench: Bench, home: Home
) -> None:
    bench.publish(event(0), event(7), event(14))  # one session, one partition
    (segment,) = (p for p in (home.log / "events").rglob("*.seg") if p.stat().st_size)
    content = bytearray(segment.read_bytes())
    offset = content.index(b"e7") - 1
    content[offset] ^= 1
    segment.write_bytes(bytes(content))
    counts = bench.writer.sync()
    assert (counts.events, counts.quarantined) == (2, 1)
    (entry,) = bench.quarantine.entries()
    assert (entry.code, entry.source) == ("damaged_log", str(segment))
    assert entry.line is not None
    assert entry.line < offset
    assert b'"event_time"' in entry.raw
    assert bench.writer.sync() == SyncCounts()


def test_log_bytes_that_are_not_a_record_go_to_quarantine(bench: Bench) -> None:
    bench.log.publish([("s", b'{"record": "event"}')])
    assert bench.writer.sync() == SyncCounts(quarantined=1)
    (entry,) = bench.quarantine.entries()
    partition = partition_of("s", 2)
    assert (entry.code, entry.source) == ("not_a_record", f"event log, partition {partition}")
    assert entry.line == int(bench.log.start(partition)), "its position in the log"


def test_a_damaged_state_file_is_named(bench: Bench, home: Home) -> None:
    bench.sync(event(1))
    (home.lake / "state.json").write_text("{")
    with pytest.raises(LakeError, match=r"state\.json: damaged .*delete it: the log is then read again"):
        bench.writer.sync()
    (home.lake / "state.json").unlink()
    assert bench.writer.sync() == SyncCounts(duplicates=1)


def test_a_lake_that_cannot_be_written_says_so(
    bench: Bench, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    bench.publish(event(1))
    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(LakeError, match=r"cannot write \(No space left on device\); free space"):
        bench.writer.sync()
    monkeypatch.undo()
    assert bench.writer.sync().events == 1


def test_large_backlogs_are_written_in_portions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.ingest.lake_writer.FLUSH_RECORDS", 100)
    monkeypatch.setattr("streaming.ingest.lake_writer._READ", 40)
    rng = random.Random(1)
    events = [event(n, day=rng.randrange(3)) for n in range(1000)]
    counts = bench.sync(*events, *events)
    assert (counts.events, counts.duplicates) == (1000, 1000)
    assert bench.events() == sorted(e.event_id for e in events)


def test_the_lookup_asks_many_days_in_portions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.ingest.lake_lookup._FILES_AT_ONCE", 3)
    events = [event(n, day=n) for n in range(10)]
    assert bench.sync(*events).events == 10
    assert bench.sync(*events) == SyncCounts(duplicates=10)


def test_files_of_the_version_before_are_read_and_merged(bench: Bench) -> None:
    """A column that was added since is absent there: it reads as null, and nothing is lost in a merge."""
    bench.sync(event(0), Item(item_id="i0", title="old"))
    for kind in ("event", "item"):
        (name,) = bench.lake.files(kind)  # type: ignore[arg-type]
        table = pq.read_table(name)
        added = "consent" if kind == "event" else "price"
        pq.write_table(table.drop_columns([added]), name)
    assert bench.sync(event(0), Item(item_id="i0", title="old")) == SyncCounts(duplicates=2)
    for n in range(1, MAX_FILES + 1):
        bench.sync(event(n), Item(item_id=f"i{n}"))
    assert len(bench.lake.files_of(DAY)) == 1
    assert bench.events() == sorted(f"e{n}" for n in range(MAX_FILES + 1))
    assert len(bench.newest("item")) == MAX_FILES + 1
    assert {row["consent"] for row in bench.rows()} == {None}


def test_a_lake_without_facts_is_upgraded_once(bench: Bench) -> None:
    """Files of a version that computed them in the build; their records are known, and no row is lost."""
    first = (Item(item_id="i0", categories=("ΧΕΙΡΟΣ",)), User(user_id="u0", attributes={"segment": 3}))
    bench.sync(*first)
    for kind in ("item", "user"):
        (name,) = bench.lake.files(kind)  # type: ignore[arg-type]
        pq.write_table(pq.read_table(name).drop_columns([FACTS]), name)
    assert bench.sync(*first, Item(item_id="i1")).duplicates == 2
    assert {row["item_id"]: row[FACTS]["attr_keys"] for row in bench.rows("item")} == {
        "i0": ["category:χειροσ"],
        "i1": [],
    }
    assert [row[FACTS] for row in bench.rows("user")] == [{"texts": [{"name": "segment", "value": "3"}]}]
    files = set(bench.lake.files("user"))
    bench.sync(User(user_id="u1"))
    assert files < set(bench.lake.files("user")), "once"


def test_a_log_that_was_deleted_is_read_from_its_start(
    bench: Bench, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    bench.sync(*(event(n) for n in range(20)))
    bench.log.close()
    shutil.rmtree(home.log)
    bench.log = SegmentLog(home.log / "events", 2, "never")
    assert bench.sync(event(3), event(99)) == SyncCounts(events=1, duplicates=1, days=frozenset({DAY}))
    assert "is beyond its end" in caplog.text
    assert bench.writer.sync() == SyncCounts()
