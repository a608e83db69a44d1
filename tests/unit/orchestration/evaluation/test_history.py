"""Histories: what is read of files and of the lake."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Event, Item, Record, User, encode, to_arrow
from feature_repo.errors import SourceError
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.evaluation.history import History, lake_history, read_history
from tests.conftest import NOW
from tests.support.history_data import event

USER = User(user_id="u", attributes={"segment": "vip"})
HAT = Item(item_id="hat", categories=("Hats",), price=5.0)


def write(path: Path, records: Sequence[Record | bytes]) -> Path:
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else encode(r) for r in records) + b"\n")
    return path


def test_items_and_users_are_their_newest_record(tmp_path: Path, settings: Settings) -> None:
    dearer = msgspec.structs.replace(HAT, price=9.0)
    path = write(tmp_path / "all.jsonl", [HAT, USER, event(1, 0, item_id="hat"), dearer])
    found = read_history(path, "headrace", settings)
    assert found.catalogue["hat"].price == 9.0
    assert found.catalogue["hat"].attr_keys == ("category:hats",)
    assert found.users == {"u": USER}
    assert found.weights["purchase"] == 5.0


def test_events_come_in_time_order_and_equal_times_as_they_were_read(
    tmp_path: Path, settings: Settings
) -> None:
    events = [event(1, 5, item_id="a"), event(2, 0, item_id="b"), event(3, 5, item_id="c")]
    found = read_history(write(tmp_path / "e.jsonl", events), "headrace", settings)
    assert [e.event_id for e in found.events] == ["e000002", "e000001", "e000003"]
    assert found.span == timedelta(seconds=5)


def test_progress_is_told_up_to_the_end(tmp_path: Path, settings: Settings) -> None:
    told: list[tuple[str, int, int]] = []
    path = write(tmp_path / "e.jsonl", [event(n, n, item_id="a") for n in range(10)])
    read_history(path, "headrace", settings, lambda *step: told.append(step))
    assert told[-1] == ("read e.jsonl", path.stat().st_size, path.stat().st_size)


def test_a_format_brings_its_own_event_types(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "users_interactions.csv"
    path.write_text(
        "timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry\n"
        "1465413032,VIEW,1,2,3,,,\n"
        "1465413033,BOOKMARK,1,2,3,,,\n"
        "1465413033,BOOKMARK,1,2,3,,,\n"
    )
    found = read_history(path, "deskdrop", settings)
    assert [e.event_type for e in found.events] == ["view", "bookmark"]
    assert found.duplicates == 1
    assert found.weights["bookmark"] > 0
    assert all(found.engages(e) for e in found.events)


def test_engagement_needs_an_item_and_a_weight() -> None:
    past = History((), {}, {}, {"click": 1.0, "search": 0.0, "impression": 0.0})
    assert past.engages(event(1, 0, item_id="a"))
    assert not past.engages(event(2, 0, "search", query="a"))
    assert not past.engages(event(3, 0, "like", item_id="a"))
    assert past.span == timedelta(0)


def cut_gzip(path: Path) -> None:
    packed = gzip.compress(b"\n".join(encode(event(n, n, item_id="a")) for n in range(500)))
    path.write_bytes(packed[: len(packed) // 2])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.jsonl", lambda path: None, "none.jsonl: no such file or folder"),
        ("empty.jsonl", lambda path: path.write_bytes(b""), "empty.jsonl: empty file"),
        (
            "bad.jsonl",
            lambda path: path.write_bytes(b"[]\n{}\n"),
            r"no valid event in it \(2 records",
        ),
        ("cut.jsonl.gz", cut_gzip, "truncated or damaged .* an evaluation needs the whole file"),
        ("items.jsonl", lambda path: write(path, [HAT]), r"no valid event in it \(0 records rejected\)"),
    ],
)
def test_files_without_a_history_are_explained(
    tmp_path: Path, settings: Settings, name: str, make: Callable[[Path], Any], message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(SourceError, match=message):
        read_history(tmp_path / name, "headrace", settings)


def test_an_unknown_format_is_explained(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(SourceError, match="--format nonsense: not a format; the formats are"):
        read_history(tmp_path, "nonsense", settings)


def test_what_breaks_the_contract_is_counted_and_left_out(tmp_path: Path, settings: Settings) -> None:
    future = json.dumps(
        {**json.loads(encode(event(9, 0, item_id="a"))), "event_time": "3000-01-01T00:00:00Z"}
    )
    unknown = json.dumps({**json.loads(encode(event(8, 0, item_id="a"))), "event_type": "dance"})
    path = write(
        tmp_path / "e.jsonl", [event(1, 0, item_id="a"), future.encode(), unknown.encode(), b"\xff\xfe", b"3"]
    )
    found = read_history(path, "headrace", settings)
    assert len(found.events) == 1
    assert found.rejected == 4


# The lake


def fill(lake: Lake, day: str, events: Sequence[Event]) -> None:
    folder = lake.root / "events" / f"day={day}"
    folder.mkdir(parents=True)
    pq.write_table(to_arrow("event", events, NOW), folder / "a.parquet")


def at(day: int, number: int) -> Event:
    time = datetime(2024, 5, day, 12, 0, number % 60, tzinfo=UTC)
    return msgspec.structs.replace(event(day * 1000 + number, 0, item_id="a"), event_time=time)


def test_the_newest_days_that_hold_enough_events_are_read(tmp_path: Path, settings: Settings) -> None:
    lake = Lake(tmp_path)
    for day in (1, 2, 3):
        fill(lake, f"2024-05-0{day}", [at(day, n) for n in range(10)])

    def days(max_events: int) -> list[int]:
        return sorted({e.event_time.day for e in lake_history(lake, settings, max_events).events})

    assert days(5) == [3]
    assert days(10) == [3]
    assert days(11) == [2, 3]
    assert days(1000) == [1, 2, 3]


def test_the_lakes_items_are_those_ingested_last(tmp_path: Path, settings: Settings) -> None:
    lake = Lake(tmp_path)
    fill(lake, "2024-05-01", [at(1, 1)])
    later = NOW + timedelta(hours=1)
    for name, price, ingested in (("a", 9.0, later), ("b", 5.0, NOW)):
        lake.folder("item").mkdir(exist_ok=True, parents=True)
        pq.write_table(
            to_arrow("item", [msgspec.structs.replace(HAT, price=price)], ingested),
            lake.folder("item") / f"{name}.parquet",
        )
    lake.folder("user").mkdir()
    pq.write_table(to_arrow("user", [USER], NOW), lake.folder("user") / "u.parquet")
    found = lake_history(lake, settings, 100)
    assert found.catalogue["hat"].price == 9.0
    assert found.users["u"].attributes == {"segment": ["vip"]} or found.users["u"] == USER
    assert found.events[0] == at(1, 1)


def test_an_empty_lake_is_an_empty_history(tmp_path: Path, settings: Settings) -> None:
    found = lake_history(Lake(tmp_path), settings, 100)
    assert found == replace(found, events=(), catalogue={}, users={})


def test_rows_a_table_cannot_hold_are_counted_as_rejected(tmp_path: Path, settings: Settings) -> None:
    """A row with too few cells never becomes a record; it must not end the reading, nor be an event."""
    path = tmp_path / "events.csv"
    path.write_text(
        "event_id,event_type,event_time,session_id,item_id\n"
        "e1,click,2024-05-01T00:00:00Z,s,a\n"
        "e2,click,2024-05-01T00:00:01Z,s,a,too,many\n"
        "e3,click,2024-05-01T00:00:02Z,s,a\n"
    )
    found = read_history(path, "headrace", settings)
    assert [e.event_id for e in found.events] == ["e1", "e3"]
    assert found.rejected == 1


def test_progress_of_a_long_file_is_told_on_the_way(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.evaluation.history.REPORT_EVERY", 10)
    told: list[tuple[str, int, int]] = []
    path = write(tmp_path / "e.jsonl", [event(n, n, item_id="a") for n in range(25)])
    read_history(path, "headrace", settings, lambda *step: told.append(step))
    assert len(told) == 3, "after 10, after 20 and at the end"
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert {size for _, _, size in told} == {path.stat().st_size}


def test_progress_of_the_lake_is_told_by_day(tmp_path: Path, settings: Settings) -> None:
    lake = Lake(tmp_path)
    for day in (1, 2, 3):
        fill(lake, f"2024-05-0{day}", [at(day, 1)])
    told: list[tuple[str, int, int]] = []
    lake_history(lake, settings, 2, lambda *step: told.append(step))
    assert told == [("read the lake", 1, 2), ("read the lake", 2, 2)]


def test_a_day_next_to_the_newest_is_read_as_itself(tmp_path: Path, settings: Settings) -> None:
    """Days are read one by one: none is read with the next, and equal times keep the order of days."""
    lake = Lake(tmp_path)
    for day in (1, 2):
        fill(lake, f"2024-05-0{day}", [at(day, n) for n in range(3)])
    found = lake_history(lake, settings, 100)
    assert [e.event_id for e in found.events] == [
        e.event_id for day in (1, 2) for e in (at(day, n) for n in range(3))
    ]
    assert found.duplicates == 0


def test_of_an_event_that_repeats_the_first_one_read_counts(tmp_path: Path, settings: Settings) -> None:
    first, second = event(1, 0, item_id="a"), event(1, 5, item_id="b")
    found = read_history(write(tmp_path / "e.jsonl", [first, second]), "headrace", settings)
    assert [e.item_id for e in found.events] == ["a"]
    assert found.duplicates == 1


@pytest.mark.parametrize("source", ["file", "lake"])
def test_an_event_stamped_ahead_counts_as_of_when_it_came(
    tmp_path: Path, settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that is the present. Within the tolerance the stamp counts."""
    off = {"a": timedelta(hours=2), "b": timedelta(seconds=5), "c": timedelta(seconds=-1)}
    events = [
        msgspec.structs.replace(event(n, 0, item_id=item), event_time=NOW + by)
        for n, (item, by) in enumerate(off.items())
    ]
    if source == "file":
        monkeypatch.setattr(Settings, "clock", property(lambda _: lambda: NOW))
        found = read_history(write(tmp_path / "e.jsonl", events), "headrace", settings)
    else:
        lake = Lake(tmp_path / "lake")
        folder = lake.events_of(NOW.date())
        folder.mkdir(parents=True)
        pq.write_table(to_arrow("event", events, NOW), folder / "part-0.parquet")
        found = lake_history(lake, settings, 100)
    assert [(e.item_id, e.event_time - NOW) for e in found.events] == [
        ("c", off["c"]),
        ("a", timedelta(0)),
        ("b", off["b"]),
    ]
