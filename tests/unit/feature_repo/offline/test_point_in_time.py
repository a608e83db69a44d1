"""The point-in-time SQL alone, on DuckDB, against a loop: ties, edges to the tick, nulls, time zones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.offline.point_in_time import FeatureTable, point_in_time_sql, quoted, text
from feature_repo.offline.pulls import newest_rows_sql

T0 = datetime(2024, 3, 31, tzinfo=UTC)
TICK = timedelta(microseconds=1)
TTL = timedelta(microseconds=4)
_TS = pa.timestamp("us", tz="UTC")
ENTITY = pa.schema([("k", pa.string()), ("at", _TS), ("n", pa.int64())])
SOURCE = pa.schema([("k", pa.string()), ("ts", _TS), ("made", _TS), ("v", pa.int64())])


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 2}) as found:
        found.execute("SET TimeZone = 'UTC'")
        yield found


def table(ttl: timedelta | None = None, created: str | None = "made") -> FeatureTable:
    return FeatureTable("source", (("k", "k"),), (("v", "v"),), "ts", created, ttl)


def answered(
    con: duckdb.DuckDBPyConnection,
    entities: pa.Table,
    source: pa.Table,
    features: FeatureTable,
    *,
    bounds: tuple[datetime, datetime] | None = None,
    exclude_late: bool = False,
) -> dict[int, int | None]:
    """Entity row number → value; every entity row exactly once."""
    con.register("asked", entities)
    con.register("source", source)
    sql = point_in_time_sql(
        "asked", entities.column_names, "at", [features], bounds=bounds, exclude_late=exclude_late
    )
    rows = con.sql(sql).to_arrow_table().to_pylist()
    assert sorted(row["n"] for row in rows) == list(range(entities.num_rows))
    return {row["n"]: row["v"] for row in rows}


moments = st.integers(0, 8).map(lambda n: T0 + n * TICK)
keys = st.sampled_from(["a", "b", None])
asked_rows = st.lists(
    st.fixed_dictionaries({"k": keys, "at": st.one_of(moments, moments, st.none())}), min_size=1, max_size=8
)
source_rows = st.lists(
    st.fixed_dictionaries(
        {"k": keys, "ts": st.one_of(moments, moments, st.none()), "made": st.one_of(moments, st.none())}
    ),
    max_size=14,
)


def oracle(
    asked: dict[str, Any], rows: list[dict[str, Any]], ttl: timedelta | None, exclude_late: bool
) -> set[int | None]:
    """The values that may be answered: of rows equal in both times any."""
    least = T0 - timedelta(days=1)
    known = [
        row
        for row in rows
        if asked["k"] is not None
        and row["k"] == asked["k"]
        and asked["at"] is not None
        and row["ts"] is not None
        and row["ts"] <= asked["at"]
        and not (exclude_late and (row["made"] is None or row["made"] > asked["at"]))
    ]
    if not known:
        return {None}
    best = max((row["ts"], row["made"] or least) for row in known)
    if ttl is not None and best[0] + ttl < asked["at"]:
        return {None}
    return {row["v"] for row in known if (row["ts"], row["made"] or least) == best}


ways = st.fixed_dictionaries(
    {"ttl": st.sampled_from([None, TTL]), "late": st.booleans(), "bound": st.booleans()}
)


@given(asked_rows, source_rows, ways)
@settings(max_examples=150, deadline=None)
def test_equal_to_a_loop(
    con: duckdb.DuckDBPyConnection,
    asked: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    way: dict[str, Any],
) -> None:
    asked = [{**row, "n": n} for n, row in enumerate(asked)]
    rows = [{**row, "v": n} for n, row in enumerate(rows)]
    times = [row["at"] for row in asked if row["at"] is not None]
    found = answered(
        con,
        pa.Table.from_pylist(asked, schema=ENTITY),
        pa.Table.from_pylist(rows, schema=SOURCE),
        table(way["ttl"]),
        bounds=(min(times), max(times)) if way["bound"] and times else None,
        exclude_late=way["late"],
    )
    for row in asked:
        assert found[row["n"]] in oracle(row, rows, way["ttl"], way["late"]), row


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(-1, None), (0, 1), (1, 1), (4, 1), (5, None)],
    ids=["a tick before", "the same moment", "a tick after", "as old as the ttl", "a tick older"],
)
def test_both_edges_to_the_microsecond(
    con: duckdb.DuckDBPyConnection, asked: int, expected: int | None
) -> None:
    entities = pa.Table.from_pylist([{"k": "a", "at": T0 + asked * TICK, "n": 0}], schema=ENTITY)
    source = pa.Table.from_pylist([{"k": "a", "ts": T0, "made": T0, "v": 1}], schema=SOURCE)
    assert answered(con, entities, source, table(TTL)) == {0: expected}


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+05:30"])
@pytest.mark.parametrize("of_source", [None, "America/New_York"])
def test_time_zones_change_nothing_and_no_zone_is_utc(
    con: duckdb.DuckDBPyConnection, zone: str | None, of_source: str | None
) -> None:
    # The night in which Berlin's clocks go forward.
    at = T0 + timedelta(hours=1, minutes=30)
    entities = pa.Table.from_pylist(
        [{"k": "a", "at": at, "n": 0}, {"k": "a", "at": at - timedelta(seconds=1), "n": 1}], schema=ENTITY
    )
    entities = entities.set_column(1, "at", entities["at"].cast(pa.timestamp("us", tz=zone)))
    source = pa.Table.from_pylist([{"k": "a", "ts": at, "made": at, "v": 1}], schema=SOURCE)
    for n, name in ((1, "ts"), (2, "made")):
        source = source.set_column(n, name, source[name].cast(pa.timestamp("us", tz=of_source)))
    for late in (False, True):
        found = answered(con, entities, source, table(TTL), bounds=(at, at), exclude_late=late)
        assert found == {0: 1, 1: None}


def test_the_offset_of_a_moment_counts_in_bounds(con: duckdb.DuckDBPyConnection) -> None:
    east = timezone(timedelta(hours=14))
    entities = pa.Table.from_pylist([{"k": "a", "at": T0, "n": 0}], schema=ENTITY)
    source = pa.Table.from_pylist([{"k": "a", "ts": T0, "made": T0, "v": 1}], schema=SOURCE)
    bounds = (T0.astimezone(east), T0.astimezone(east))
    assert answered(con, entities, source, table(TTL), bounds=bounds) == {0: 1}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_of_time_may_differ(con: duckdb.DuckDBPyConnection, unit: str) -> None:
    entities = pa.Table.from_pylist([{"k": "a", "at": T0, "n": 0}], schema=ENTITY)
    source = pa.Table.from_pylist([{"k": "a", "ts": T0, "made": T0, "v": 1}], schema=SOURCE)
    source = source.set_column(1, "ts", source["ts"].cast(pa.timestamp(unit)))
    assert answered(con, entities, source, table(TTL)) == {0: 1}


def test_names_with_quotes_and_features_named_like_keys() -> None:
    name = """it's "k" """
    features = FeatureTable("source", ((name, name),), ((name, "value"),), "ts")
    with duckdb.connect() as own:
        own.execute("SET TimeZone = 'UTC'")
        own.register("source", pa.table({name: ["a"], "ts": [T0]}))
        own.register("asked", pa.table({name: ["a", "b"], "at": [T0, T0]}))
        rows = own.sql(point_in_time_sql("asked", [name, "at"], "at", [features])).fetchall()
    assert sorted((row[0], row[2]) for row in rows) == [("a", "a"), ("b", None)]
    assert (quoted('a"b'), text("a'b")) == ('"a""b"', "'a''b'")


def test_without_keys_every_row_has_the_newest_value(con: duckdb.DuckDBPyConnection) -> None:
    features = FeatureTable("source", (), (("v", "v"),), "ts", "made")
    entities = pa.Table.from_pylist(
        [{"k": None, "at": T0 + n * TICK, "n": n} for n in range(3)], schema=ENTITY
    )
    source = pa.Table.from_pylist(
        [{"k": "a", "ts": T0 + n * TICK, "made": T0, "v": n} for n in range(2)], schema=SOURCE
    )
    assert answered(con, entities, source, features) == {0: 0, 1: 1, 2: 1}
    assert answered(con, entities, source, features, exclude_late=True) == {0: 0, 1: 1, 2: 1}


@given(source_rows)
@settings(max_examples=60, deadline=None)
def test_the_newest_rows_of_a_span_equal_a_loop(
    con: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]
) -> None:
    rows = [{**row, "v": n} for n, row in enumerate(rows)]
    con.register("source", pa.Table.from_pylist(rows, schema=SOURCE))
    start, end = T0 + 2 * TICK, T0 + 6 * TICK
    sql = newest_rows_sql(
        "source", keys=["k"], columns=["k", "v"], event_time="ts", created="made", start=start, end=end
    )
    found = con.sql(sql).to_arrow_table().to_pylist()
    within = [row for row in rows if row["ts"] is not None and start <= row["ts"] <= end]
    assert sorted(str(row["k"]) for row in found) == sorted({str(row["k"]) for row in within})
    for row in found:
        best = max((r["ts"], r["made"] or T0 - TICK) for r in within if r["k"] == row["k"])
        [taken] = [r for r in within if r["v"] == row["v"]]
        assert (taken["ts"], taken["made"] or T0 - TICK) == best
