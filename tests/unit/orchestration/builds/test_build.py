"""Builds: as-of semantics, schema, errors. The oracle counts clicks in plain Python."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import BuildError
from feature_repo.group import DType, Feature
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.builds.build import as_of_day, build_group, build_of_day, end_of, read_build, write_aside
from orchestration.builds.build_query import ROWS_PER_PIECE
from orchestration.builds.versions import code_version
from tests.support.offline import click_group, count_clicks, day_events, rows_of, write_events

pytestmark = pytest.mark.usefixtures("zone")

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, 30, 15, 250, tzinfo=UTC)
EVERY_TYPE: list[tuple[DType, Callable[[], Any]]] = [
    (DType.STRING, lambda: ibis.literal("it's")),
    (DType.INT64, lambda: ibis.literal(3, "int8")),
    (DType.FLOAT64, lambda: ibis.literal(3)),
    (DType.BOOL, lambda: ibis.literal(True)),
    (DType.TIMESTAMP, lambda: ibis.literal(NOW.replace(tzinfo=None), "timestamp")),
    (DType.STRINGS, lambda: ibis.array(["a", None])),
    (DType.INT64S, lambda: ibis.array([1, 2])),
    (DType.FLOAT64S, lambda: ibis.array([1, 2])),
    (DType.FLOAT32S, lambda: ibis.array([1.5]).cast("array<float32>")),
]


@pytest.fixture
def lake(home: Home) -> Lake:
    found = Lake(home.lake)
    for n in range(3):
        day = DAY + timedelta(days=n)
        write_events(found, day, day_events(day, 40))
    return found


def build(settings: Settings, home: Home, as_of: datetime, group: Any = None) -> Any:
    return build_group(group or click_group(), settings, home, as_of, lambda: NOW)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2024, 5, 31), datetime(2024, 6, 1, tzinfo=UTC)),
        (date(2024, 6, 1), datetime(2024, 6, 1, 12, 30, 15, tzinfo=UTC)),
    ],
)
def test_a_day_is_built_as_of_its_end_or_now(day: date, expected: datetime) -> None:
    assert as_of_day(day, NOW) == expected


def test_a_day_that_has_not_begun_is_refused() -> None:
    with pytest.raises(BuildError, match=r"2024-06-02: the day has not begun \(it is 2024-06-01T12"):
        as_of_day(date(2024, 6, 2), NOW)


@pytest.mark.parametrize(
    "as_of", [end_of(DAY), datetime(2024, 5, 31, 7, tzinfo=UTC), end_of(date(2024, 6, 1))]
)
def test_only_events_strictly_before_count(
    settings: Settings, home: Home, lake: Lake, as_of: datetime
) -> None:
    events = [e for n in range(3) for e in day_events(DAY + timedelta(days=n), 40)]
    expected = Counter(e.user_id for e in events if e.event_type == "click" and e.event_time < as_of)
    found = build(settings, home, as_of)
    rows = rows_of(found.path)
    assert {user: row["clicks"] for user, row in rows.items()} == dict(expected)
    assert found.rows == len(expected)
    assert {row["event_timestamp"] for row in rows.values()} == {as_of}
    assert {row["created_timestamp"] for row in rows.values()} == {NOW}


def test_an_event_at_the_very_moment_does_not_count(settings: Settings, home: Home) -> None:
    lake = Lake(home.lake)
    [first, *_] = day_events(DAY, 2)[1:]
    write_events(lake, DAY, [first])
    assert build(settings, home, first.event_time).rows == 0
    assert build(settings, home, first.event_time + timedelta(seconds=1)).rows == 1


def test_history_is_bounded_by_the_setting(home: Home, lake: Lake) -> None:
    short = Settings(home=home.root, history_days=1)
    rows = rows_of(build(short, home, end_of(DAY + timedelta(days=1))).path)
    only = Counter(e.user_id for e in day_events(DAY + timedelta(days=1), 40) if e.event_type == "click")
    assert {user: row["clicks"] for user, row in rows.items()} == dict(only)


def test_the_file_has_the_declared_schema(settings: Settings, home: Home, lake: Lake) -> None:
    found = build(settings, home, end_of(DAY))
    columns, declared = pq.read_schema(found.path), click_group().arrow_schema
    assert list(zip(columns.names, columns.types, strict=True)) == list(
        zip(declared.names, declared.types, strict=True)
    )
    assert read_build(found.path) == found


@pytest.mark.parametrize(("dtype", "value"), EVERY_TYPE, ids=lambda v: str(v) if isinstance(v, DType) else "")
def test_every_declared_type_is_written_as_declared(
    settings: Settings, home: Home, lake: Lake, dtype: DType, value: Any
) -> None:
    features = (*click_group().features, Feature("more", dtype, "Another."))
    found = build(
        settings,
        home,
        end_of(DAY),
        replace(
            click_group(batch=lambda t, p: count_clicks(t, p).mutate(more=value())),
            features=features,
            name="x",
        ),
    )
    table = pq.read_table(found.path, partitioning=None)
    assert table.schema.field("more").type == dtype.arrow
    assert table.num_rows == found.rows > 0
    assert table["more"].null_count == 0


def test_a_build_is_written_in_pieces(settings: Settings, home: Home, lake: Lake) -> None:
    """Row groups are what a materialization writes between two marks, and what is held in memory."""

    def many(tables: Any, params: Any) -> Any:
        rows = count_clicks(tables, params).mutate(number=ibis.range(4_000).unnest())
        return rows.mutate(user_id=rows.user_id + rows.number.cast("string")).drop("number")

    found = build(settings, home, end_of(DAY), click_group(batch=many))
    file = pq.read_metadata(found.path)
    assert file.num_rows == found.rows == 20_000
    largest = max(file.row_group(n).num_rows for n in range(file.num_row_groups))
    assert largest <= ROWS_PER_PIECE + 2_048  # it looks after each of its vectors


def test_building_twice_gives_the_same_rows_and_one_file(settings: Settings, home: Home, lake: Lake) -> None:
    first = rows_of(build(settings, home, end_of(DAY)).path)
    again = build(settings, home, end_of(DAY))
    assert rows_of(again.path) == first
    assert [p.name for p in again.path.parent.iterdir()] == ["data.parquet"]
    assert Builds(home.features).history("clicks") == [again.path]


def test_an_unchanged_partition_is_not_built_again(
    settings: Settings, home: Home, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[datetime] = []

    def counted(tables: Any, params: Any) -> Any:
        made.append(params.as_of)
        return count_clicks(tables, params)

    group, as_of = click_group(batch=counted), end_of(DAY)
    first = build(settings, home, as_of, group)
    assert build(settings, home, as_of, group) == first
    assert len(made) == 1
    # Events after the moment, on the next day or another, are no input of it.
    for n in (1, 5):
        later = DAY + timedelta(days=n)
        write_events(lake, later, day_events(later, 3, offset=9_000), "part-1")
        assert build(settings, home, as_of, group) == first
    assert len(made) == 1
    # A late event of the day is; so are a setting, the declaration and a damaged build.
    write_events(lake, DAY, day_events(DAY, 3, offset=9_000), "part-1")
    build(settings, home, as_of, group)
    build(settings.model_copy(update={"history_days": 9}), home, as_of, group)
    again = build(settings, home, as_of, replace(group, ttl=timedelta(days=1), version=1))
    assert len(made) == 4
    again.path.write_bytes(b"damaged")
    assert build(settings, home, as_of, group).rows == again.rows
    assert len(made) == 5


def test_the_code_version_follows_the_declaration() -> None:
    group = click_group()
    assert code_version(group) == code_version(click_group())
    assert code_version(replace(group, version=2)) != code_version(group)
    assert code_version(replace(group, features=group.features[:1])) != code_version(group)
    assert code_version(all_groups()["user_profile"]) != code_version(all_groups()["item_profile"])


def test_an_empty_lake_gives_an_empty_build(settings: Settings, home: Home) -> None:
    assert build(settings, home, end_of(DAY)).rows == 0


def test_the_newest_build_of_a_day_is_found(settings: Settings, home: Home, lake: Lake) -> None:
    builds, group = Builds(home.features), click_group()
    noon = datetime(2024, 5, 31, 12, tzinfo=UTC)
    older, newer = build(settings, home, noon), build(settings, home, noon + timedelta(hours=3))
    ends_before = build(settings, home, end_of(DAY))
    assert build_of_day(builds, group, date(2024, 5, 31)) == newer
    assert build_of_day(builds, group, date(2024, 5, 31), until=noon) == older
    assert build_of_day(builds, group, DAY) == ends_before
    assert build_of_day(builds, group, date(2024, 6, 1)) is None


def test_a_group_reads_the_groups_it_depends_on(
    settings: Settings, home: Home, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = click_group("base")

    def doubled(tables: Any, params: Any) -> Any:
        base_rows = tables.groups["base"]
        return base_rows.select("user_id", "last_item", "last_event_time", clicks=base_rows.clicks * 2)

    double = click_group("double", doubled, depends_on=("base",))
    monkeypatch.setattr("orchestration.builds.build.all_groups", lambda: {"base": base, "double": double})
    with pytest.raises(BuildError, match="double of 2024-05-30: reads base, which has no build of that day"):
        build(settings, home, end_of(DAY), double)
    base_rows = rows_of(build(settings, home, end_of(DAY), base).path)
    rows = rows_of(build(settings, home, end_of(DAY), double).path)
    assert {u: r["clicks"] for u, r in rows.items()} == {u: 2 * r["clicks"] for u, r in base_rows.items()}


def test_a_stream_group_cannot_be_built(settings: Settings, home: Home) -> None:
    group = all_groups()["session_profile"]
    with pytest.raises(BuildError, match="session_profile: has no batch expression; the stream maintains it"):
        build(settings, home, end_of(DAY), group)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop("last_item"),
            "its expression lacks last_item; it must yield exactly user_id",
        ),
        (lambda t: t.mutate(more=1), "clicks: its expression adds more; it must yield exactly"),
        (
            lambda t: t.mutate(clicks=t.clicks / 2, last_item=t.clicks),
            "its expression yields clicks as float64, not int64, last_item as int64, not string; cast it",
        ),
    ],
)
def test_an_expression_with_other_columns_is_refused(
    settings: Settings, home: Home, lake: Lake, change: Callable[[Any], Any], message: str
) -> None:
    group = click_group(batch=lambda tables, params: change(count_clicks(tables, params)))
    with pytest.raises(BuildError, match=message):
        build(settings, home, end_of(DAY), group)
    assert Builds(home.features).history("clicks") == []


def test_a_null_key_is_refused(settings: Settings, home: Home, lake: Lake) -> None:
    def nulled(tables: Any, params: Any) -> Any:
        return (t := count_clicks(tables, params)).mutate(user_id=t.user_id.nullif("u1"))

    with pytest.raises(BuildError, match="clicks as of 2024-05-31T00:00:00Z: 1 row has no user_id"):
        build(settings, home, end_of(DAY), click_group(batch=nulled))


def test_a_corrupt_lake_file_is_named_and_the_last_build_stays(
    settings: Settings, home: Home, lake: Lake
) -> None:
    good = build(settings, home, end_of(DAY))
    before = good.path.read_bytes()
    bad = lake.events_of(DAY) / "part-1.parquet"
    bad.write_bytes(b"PAR1 this is no parquet")
    with pytest.raises(BuildError, match=r"part-1\.parquet.*; remove or restore that file"):
        build(settings, home, end_of(DAY))
    assert good.path.read_bytes() == before
    assert not list(home.features.glob("**/*.tmp"))
    bad.unlink()
    assert build(settings, home, end_of(DAY)).rows == good.rows


def test_a_corrupt_build_is_named(settings: Settings, home: Home, lake: Lake) -> None:
    found = build(settings, home, end_of(DAY))
    found.path.write_bytes(found.path.read_bytes()[:100])
    with pytest.raises(BuildError, match=r"data\.parquet: not a readable build .*; remove it and rebuild"):
        read_build(found.path)


def test_a_failing_disk_is_explained(
    settings: Settings, home: Home, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = build(settings, home, end_of(DAY))

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("feature_repo.files.os.fsync", full)
    write_events(lake, DAY, day_events(DAY, 3, offset=9_000), "part-1")
    with pytest.raises(BuildError, match="No space left on device; free space under HEADRACE_HOME"):
        build(settings, home, end_of(DAY))
    assert read_build(good.path).rows == good.rows
    assert not list(home.features.glob("**/*.tmp"))


def test_too_little_memory_names_the_setting(home: Home, lake: Lake) -> None:
    def greedy(tables: Any, params: Any) -> Any:
        crossed = tables.events.cross_join(tables.events.view()).cross_join(tables.items.view())
        return count_clicks(tables, params).mutate(clicks=crossed.count().as_scalar())

    settings = Settings(home=home.root, duckdb_memory="1KB")
    with pytest.raises(BuildError, match="raise HEADRACE_DUCKDB_MEMORY"):
        build(settings, home, end_of(DAY))


def test_two_builds_of_one_partition_at_once_both_end_whole(
    settings: Settings, home: Home, lake: Lake
) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            build(settings, home, end_of(DAY))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    [path] = Builds(home.features).history("clicks")
    assert [p.name for p in path.parent.iterdir()] == ["data.parquet"]
    assert read_build(path).rows == 5


def test_a_writer_that_dies_leaves_the_file_as_it_was(home: Home) -> None:
    path = home.root / "x" / "data.parquet"
    schema = pa.schema([("a", pa.int64())])
    batch = pa.RecordBatch.from_pydict({"a": [1]}, schema=schema)
    assert write_aside(path, schema, iter([batch])) == 1

    def dying() -> Any:
        yield batch
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_aside(path, schema, dying())
    assert pq.read_table(path, partitioning=None).num_rows == 1
    assert [p.name for p in path.parent.iterdir()] == ["data.parquet"]
