"""What the lake holds of a batch, against sets and dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Event, Item, User, to_arrow
from feature_repo.errors import LakeError
from feature_repo.lake.lake import Lake
from streaming.ingest.lake_lookup import LakeLookup, id_of, rows_of
from streaming.ingest.parquet_folder import ParquetFolder
from tests.support.events_strategy import World, worlds

pytestmark = pytest.mark.usefixtures("zone")

DAY = datetime(2024, 5, 30, tzinfo=UTC)


def event(number: int, day: int) -> Event:
    time = DAY + timedelta(days=day, seconds=number)
    return Event(event_id=f"e{number}", event_type="click", event_time=time, session_id="s", item_id="i")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def lookup(lake: Lake) -> Iterator[LakeLookup]:
    made = LakeLookup(lake)
    yield made
    made.close()


pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=20, unique=True)


@settings(deadline=None, max_examples=20)
@given(stored=pairs, asked=pairs)
def test_known_are_those_stored_under_the_same_day(
    tmp_path_factory: pytest.TempPathFactory, stored: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for day in range(4):
        of_day = [event(number, d) for number, d in stored if d == day]
        if of_day:
            ParquetFolder(lake.events_of(of_day[0].event_time.date())).add(to_arrow("event", of_day, DAY))
    lookup = LakeLookup(lake)
    known = lookup.known_ids([event(*pair) for pair in asked])
    lookup.close()
    expected = {((DAY + timedelta(days=d)).date(), f"e{n}") for n, d in set(stored) & set(asked)}
    assert known == expected


def test_an_event_at_midnight_is_of_the_day_it_begins(lake: Lake, lookup: LakeLookup) -> None:
    at, before = event(0, 1), event(1, 1)
    before = Event(
        event_id="b",
        event_type="click",
        event_time=DAY + timedelta(days=1, microseconds=-1),
        session_id="s",
        item_id="i",
    )
    for stored in (at, before):
        ParquetFolder(lake.events_of(stored.event_time.date())).add(to_arrow("event", [stored], DAY))
    assert lookup.known_ids([at, before]) == {(date(2024, 5, 31), "e0"), (date(2024, 5, 30), "b")}


def test_ids_are_compared_as_they_are(lake: Lake, lookup: LakeLookup) -> None:
    odd = ["", "'; DROP", "é", "e\u0301", "E", "e", " e", "\\", "日本"]
    events = [
        Event(event_id=i, event_type="click", event_time=DAY, session_id="s", item_id="i") for i in odd[1:5]
    ]
    ParquetFolder(lake.events_of(DAY.date())).add(to_arrow("event", events, DAY))
    asked = [Event(event_id=i, event_type="click", event_time=DAY, session_id="s", item_id="i") for i in odd]
    assert {i for _, i in lookup.known_ids(asked)} == set(odd[1:5])


def test_nothing_is_known_of_an_empty_lake(lookup: LakeLookup) -> None:
    assert lookup.known_ids([event(1, 0)]) == set()
    assert lookup.known_ids([]) == set()
    assert lookup.newest("item", ["i"]) == {}
    assert lookup.newest("user", []) == {}


@settings(deadline=None, max_examples=20)
@given(worlds(max_events=0))
def test_what_was_stored_compares_equal_and_anything_else_does_not(
    tmp_path_factory: pytest.TempPathFactory, world: World
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lookup = LakeLookup(lake)
    stored: list[tuple[str, list[Item] | list[User]]] = [("item", world.items), ("user", world.users)]
    for kind, records in stored:
        if records:
            ParquetFolder(lake.folder(kind)).add(to_arrow(kind, records, DAY))  # type: ignore[arg-type]
        newest = lookup.newest(kind, [id_of(r) for r in records])  # type: ignore[arg-type]
        rows = rows_of(kind, records)  # type: ignore[arg-type]
        assert [newest[id_of(r)] for r in records] == rows
    changed = [Item(item_id=i.item_id, title=i.title + "!", attributes=i.attributes) for i in world.items]
    newest = lookup.newest("item", [i.item_id for i in changed])
    assert all(newest[i.item_id] != row for i, row in zip(changed, rows_of("item", changed), strict=True))
    lookup.close()


def test_of_several_rows_the_newest_is_given(lake: Lake, lookup: LakeLookup) -> None:
    for n, title in enumerate(["first", "third", "second"]):
        at = DAY + timedelta(seconds={"first": 0, "second": 1, "third": 2}[title])
        table = to_arrow("item", [Item(item_id="i", title=title)], at)
        lake.folder("item").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, lake.folder("item") / f"part-{n:08d}.parquet")
    assert lookup.newest("item", ["i", "other"])["i"]["title"] == "third"


def test_a_damaged_file_is_named_whichever_is_asked(lake: Lake, lookup: LakeLookup) -> None:
    for folder in (lake.events_of(DAY.date()), lake.folder("item")):
        folder.mkdir(parents=True)
        (folder / "part-00000000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(LakeError, match=r"day=2024-05-30/part-00000000\.parquet: damaged Parquet file"):
        lookup.known_ids([event(1, 0)])
    with pytest.raises(LakeError, match=r"items/part-00000000\.parquet: damaged Parquet file"):
        lookup.newest("item", ["i"])


def test_a_file_of_another_make_is_an_error_that_says_what_is_missing(lake: Lake, lookup: LakeLookup) -> None:
    folder = lake.events_of(DAY.date())
    folder.mkdir(parents=True)
    pq.write_table(
        to_arrow("event", [event(1, 0)], DAY).drop_columns(["event_id"]), folder / "part-00000000.parquet"
    )
    words = r"part-00000000\.parquet: no column event_id; it is no file of this lake"
    with pytest.raises(LakeError, match=words):
        lookup.known_ids([event(1, 0)])
