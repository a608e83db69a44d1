"""The layout of the lake: which files make up a day, which stand in for others, which are damaged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contract.validation import Event, Item, to_arrow
from feature_repo.errors import LakeError
from feature_repo.lake.lake import (
    Build,
    Builds,
    Lake,
    days_before,
    duckdb_backend,
    numbered,
    present,
    read_kind,
    read_tables,
    unreadable,
)

DAY = date(2024, 5, 30)
NOON = datetime(2024, 5, 30, 12, tzinfo=UTC)


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def names(paths: list[Path]) -> list[str]:
    return [p.name for p in paths]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("part-00000007.parquet", ("part", 7)),
        ("upto-00000012.parquet", ("upto", 12)),
        ("data.parquet", ("", 0)),
        ("part-x.parquet", ("", 0)),
        ("other-1.parquet", ("", 0)),
    ],
)
def test_the_role_of_a_file_is_in_its_name(name: str, expected: tuple[str, int]) -> None:
    assert numbered(Path(name)) == expected


def test_a_compaction_stands_for_all_before_it(tmp_path: Path) -> None:
    touch(tmp_path, "part-00000000.parquet", "part-00000001.parquet", "part-00000002.parquet")
    assert len(present(tmp_path)) == 3
    touch(tmp_path, "upto-00000001.parquet")
    assert names(present(tmp_path)) == ["part-00000002.parquet", "upto-00000001.parquet"]
    touch(tmp_path, "upto-00000002.parquet", "part-00000003.parquet", "by-hand.parquet", ".part-00000009.tmp")
    assert names(present(tmp_path)) == ["by-hand.parquet", "part-00000003.parquet", "upto-00000002.parquet"]


@given(st.sets(st.integers(0, 15)), st.sets(st.integers(0, 15)))
def test_each_part_is_present_once_itself_or_by_a_compaction(parts: set[int], merges: set[int]) -> None:
    class Folder:
        def glob(self, _: str) -> list[Path]:
            files = [f"part-{n:08d}.parquet" for n in parts] + [f"upto-{n:08d}.parquet" for n in merges]
            return [Path(f) for f in files]

    found = [numbered(p) for p in present(Folder())]  # type: ignore[arg-type]
    compactions = [n for role, n in found if role == "upto"]
    assert compactions == ([max(merges)] if merges else [])
    assert {n for role, n in found if role == "part"} == {n for n in parts if n > max(merges, default=-1)}


def test_days_and_files_by_range(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert (lake.days(), lake.files("event"), lake.files("item")) == ([], [], [])
    for n in range(4):
        touch(lake.events_of(DAY + timedelta(days=n)), "part-00000000.parquet")
    touch(lake.events_of(DAY + timedelta(days=9)), ".part-00000000.parquet.tmp")  # written, not yet in place
    touch(lake.folder("item"), "part-00000000.parquet")
    assert lake.days() == [DAY + timedelta(days=n) for n in range(4)]
    assert len(lake.files("event")) == 4
    assert lake.files("event", DAY + timedelta(days=1), DAY + timedelta(days=3)) == [
        *lake.files_of(DAY + timedelta(days=1)),
        *lake.files_of(DAY + timedelta(days=2)),
    ]
    assert lake.files("item") == [str(tmp_path / "items" / "part-00000000.parquet")]


def test_the_first_damaged_file_is_named(tmp_path: Path) -> None:
    good, cut, gone = (str(tmp_path / f"{n}.parquet") for n in ("good", "cut", "gone"))
    pq.write_table(pa.table({"a": [1]}), good)
    Path(cut).write_bytes(Path(good).read_bytes()[:20])
    assert unreadable([good]) is None
    assert unreadable([]) is None
    for bad in (cut, gone):
        error = unreadable([good, bad, cut])
        assert error is not None
        assert str(error).startswith(f"{bad}: damaged Parquet file (")
        assert "move it away and ingest its source again" in str(error)


def write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "part-00000000.parquet")


def event(event_id: str, time: datetime) -> Event:
    return Event(event_id=event_id, event_type="click", event_time=time, session_id="s", item_id="i")


def test_tables_as_of_a_time_hold_nothing_at_or_after_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    old, before, at = NOON - timedelta(days=3), NOON - timedelta(microseconds=1), NOON
    for day, times in ((old.date(), [old]), (NOON.date(), [before, at])):
        write(lake.events_of(day), to_arrow("event", [event(t.isoformat(), t) for t in times], NOON))
    with duckdb_backend("256MB", 1, tmp_path / "spill") as con:
        tables = read_tables(con, lake, NOON, timedelta(days=2))
        assert tables.events.event_id.to_pyarrow().to_pylist() == [before.isoformat()]
        tables = read_tables(con, lake, NOON + timedelta(microseconds=1), timedelta(days=30))
        assert len(tables.events.event_id.to_pyarrow()) == 3


def test_of_an_item_the_newest_is_used(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.folder("item").mkdir(parents=True)
    for n, title in enumerate(["new", "old"]):
        table = to_arrow("item", [Item(item_id="i", title=title)], NOON - timedelta(seconds=n))
        pq.write_table(table, lake.folder("item") / f"part-{n:08d}.parquet")
    with duckdb_backend("256MB", 1, tmp_path / "spill") as con:
        items = read_tables(con, lake, NOON, timedelta(days=1)).items.to_pyarrow().to_pylist()
    assert [row["title"] for row in items] == ["new"]


@pytest.mark.parametrize("kind", ["event", "item", "user"])
def test_an_empty_lake_has_the_columns_all_the_same(tmp_path: Path, kind: str) -> None:
    with duckdb_backend("256MB", 1, tmp_path / "spill") as con:
        table = read_kind(con, Lake(tmp_path), kind)  # type: ignore[arg-type]
        assert table.count().to_pyarrow().as_py() == 0
        assert "ingested_at" in table.columns


@pytest.mark.parametrize(
    ("as_of", "first", "end"),
    [
        (datetime(2024, 6, 2, tzinfo=UTC), date(2024, 6, 1), date(2024, 6, 2)),
        (datetime(2024, 6, 2, 0, 0, 1, tzinfo=UTC), date(2024, 6, 1), date(2024, 6, 3)),
        (datetime(2024, 6, 2, 1, tzinfo=timezone(timedelta(hours=2))), date(2024, 5, 31), date(2024, 6, 2)),
    ],
)
def test_midnight_closes_the_day_before_and_reads_no_file_of_its_own(
    as_of: datetime, first: date, end: date
) -> None:
    assert days_before(as_of, timedelta(days=1)) == (first, end)


def built(builds: Builds, hour: int, *values: int) -> Build:
    as_of = NOON + timedelta(hours=hour)
    path = builds.write("taste", as_of, pa.table({"a": values}))
    return Build(path, as_of, NOON, len(values))


def held(path: Path) -> list[int]:
    return list(pq.read_table(path, partitioning=None)["a"].to_pylist())


def test_what_passed_comes_back_when_its_rerun_is_held_back(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    good = built(builds, 0, 1, 2)
    builds.confirm(good)
    builds.promote("taste", good)
    for bad in ([3], [4]):  # again and again
        builds.hold_back("taste", built(builds, 0, *bad))
        assert held(good.path) == [1, 2]
        assert held(builds.folder("taste") / "blocked.parquet") == bad
    assert builds.history("taste") == [good.path]
    builds.confirm(built(builds, 0, 5))
    builds.hold_back("taste", built(builds, 0, 6))
    assert held(good.path) == [5]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_build_held_back_is_no_history_but_kept(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    good, bad = built(builds, 0, 1), built(builds, 1, 2)
    builds.promote("taste", good)
    builds.hold_back("taste", bad)
    assert builds.history("taste") == [good.path]
    assert held(builds.folder("taste") / "blocked.parquet") == [2]
    assert not bad.path.parent.exists()
    assert held(built(builds, 1, 3).path) == [3]


@pytest.mark.parametrize("confirmed", [True, False])
def test_what_is_served_stays_though_new_bounds_refuse_it(tmp_path: Path, confirmed: bool) -> None:
    builds = Builds(tmp_path)
    good = built(builds, 0, 1)
    if confirmed:
        builds.confirm(good)
    builds.promote("taste", good)
    builds.hold_back("taste", good)
    assert held(good.path) == [1]
    assert builds.current("taste") == good
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"path": "x"}'])
def test_a_damaged_pointer_is_named(tmp_path: Path, content: str) -> None:
    builds = Builds(tmp_path)
    builds.folder("taste").mkdir(parents=True)
    (builds.folder("taste") / "CURRENT").write_text(content)
    with pytest.raises(LakeError, match=r"CURRENT: names no build .* remove it"):
        builds.current("taste")


def test_two_promote_at_once_and_the_pointer_is_whole(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    both = [built(builds, hour, hour) for hour in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda build: [builds.promote("taste", build) for _ in range(50)], both))
    assert builds.current("taste") in both
