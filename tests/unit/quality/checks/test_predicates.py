"""The SQL of each rule against the rule in words, row by row, on values that SQL has its own mind about."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from quality.checks.predicates import breaks, condition, quoted
from quality.checks.suites import Rule, Where

T0 = datetime(2024, 6, 1, tzinfo=UTC)
FLOATS = st.none() | st.floats(-4, 4) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
INTS = st.none() | st.integers(-4, 4)
TEXTS = st.none() | st.sampled_from(["", "calm", "wild", "it's", "é", 'a"b'])
TIMES = st.none() | st.integers(-3, 3).map(lambda n: T0 + timedelta(microseconds=n))
BOUND = st.none() | st.sampled_from([-2, -0.5, 0, 1.5, 3])


@pytest.fixture(scope="module")
def con() -> Any:
    with duckdb.connect() as found:
        found.execute("SET TimeZone = 'UTC'")
        yield found


def broken(con: Any, rule: Rule, table: pa.Table) -> list[bool]:
    """Row by row; unknown (NULL) is not broken."""
    con.register("rows", table)
    query = f"SELECT coalesce({breaks(rule, table.schema)}, false) FROM rows ORDER BY n"
    return [found for (found,) in con.execute(query).fetchall()]


def table_of(values: list[Any], dtype: pa.DataType, name: str = "v") -> pa.Table:
    return pa.table({"n": range(len(values)), name: pa.array(values, dtype)})


def outside(value: Any, rule: Rule) -> bool:
    """Of a number, a length or a time that is there; NaN is within no bounds."""
    if isinstance(value, float) and math.isnan(value):
        return True
    too_small = rule.minimum is not None and value < rule.minimum
    return too_small or (rule.maximum is not None and value > rule.maximum)


@hypothesis_settings(max_examples=40)
@given(st.lists(FLOATS, min_size=1, max_size=12), BOUND, BOUND)
def test_numbers_between_bounds(con: Any, values: list[float | None], low: Any, high: Any) -> None:
    rule = Rule("between", ("v",), minimum=low, maximum=high)
    found = broken(con, rule, table_of(values, pa.float64()))
    assert found == [v is not None and outside(v, rule) for v in values]
    lists = [None, [], *([v] for v in values), values]
    found = broken(con, rule, table_of(lists, pa.list_(pa.float64())))
    assert found == [any(v is not None and outside(v, rule) for v in one or ()) for one in lists]


@hypothesis_settings(max_examples=30)
@given(st.lists(INTS, min_size=1, max_size=12), BOUND, BOUND)
def test_whole_numbers_between_bounds(con: Any, values: list[int | None], low: Any, high: Any) -> None:
    rule = Rule("between", ("v",), minimum=low, maximum=high)
    found = broken(con, rule, table_of(values, pa.int64()))
    assert found == [v is not None and outside(v, rule) for v in values]


@hypothesis_settings(max_examples=30)
@given(st.lists(TIMES, min_size=1, max_size=8), TIMES, TIMES)
def test_times_between_bounds_to_the_microsecond(
    con: Any, values: list[datetime | None], low: datetime | None, high: datetime | None
) -> None:
    rule = Rule("between", ("v",), minimum=low, maximum=high)
    found = broken(con, rule, table_of(values, pa.timestamp("us", "UTC")))
    assert found == [v is not None and outside(v, rule) for v in values]


@hypothesis_settings(max_examples=30)
@given(st.lists(FLOATS, min_size=1, max_size=12))
def test_finite_numbers(con: Any, values: list[float | None]) -> None:
    rule = Rule("finite", ("v",))
    found = broken(con, rule, table_of(values, pa.float64()))
    assert found == [v is not None and not math.isfinite(v) for v in values]
    lists = [None, [], [1.0, None], values]
    found = broken(con, rule, table_of(lists, pa.list_(pa.float64())))
    assert found == [any(v is not None and not math.isfinite(v) for v in one or ()) for one in lists]


@hypothesis_settings(max_examples=30)
@given(st.lists(TEXTS, min_size=1, max_size=12), st.lists(TEXTS.filter(bool), min_size=1, max_size=3))
def test_texts_of_a_set(con: Any, values: list[str | None], allowed: list[str]) -> None:
    rule = Rule("in_set", ("v",), values=tuple(allowed))
    found = broken(con, rule, table_of(values, pa.string()))
    assert found == [v is not None and v not in allowed for v in values]
    lists = [None, [], values]
    found = broken(con, rule, table_of(lists, pa.list_(pa.string())))
    assert found == [any(v is not None and v not in allowed for v in one or ()) for one in lists]


@hypothesis_settings(max_examples=30)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.integers(0, 3), st.none() | st.integers(3, 5))
def test_lengths_are_bytes_of_a_text_and_elements_of_a_list(
    con: Any, values: list[str | None], low: int, high: int | None
) -> None:
    rule = Rule("length_between", ("v",), minimum=low, maximum=high)
    found = broken(con, rule, table_of(values, pa.string()))
    assert found == [v is not None and outside(len(v.encode()), rule) for v in values]
    # A list that is absent is as bad as an empty one.
    lists: list[list[str] | None] = [None, [], ["a"], ["a", "b"], ["a"] * 4, ["a"] * 6]
    found = broken(con, rule, table_of(lists, pa.list_(pa.string())))
    assert found == [outside(len(one or ()), rule) for one in lists]


@hypothesis_settings(max_examples=30)
@given(
    st.lists(st.tuples(*[st.none() | st.lists(st.integers(0, 1), max_size=2)] * 3), min_size=1, max_size=8)
)
def test_lists_of_one_length(con: Any, rows: list[tuple[list[int] | None, ...]]) -> None:
    columns = {name: [row[n] for row in rows] for n, name in enumerate("abc")}
    arrays = {name: pa.array(found, pa.list_(pa.int64())) for name, found in columns.items()}
    table = pa.table({"n": range(len(rows)), **arrays})
    found = broken(con, Rule("same_length", ("a", "b", "c")), table)
    assert found == [len({len(one or ()) for one in row}) > 1 for row in rows]


def test_only_not_null_speaks_of_what_is_absent(con: Any) -> None:
    table = table_of([None, 1.0, math.nan], pa.float64())
    assert broken(con, Rule("not_null", ("v",)), table) == [True, False, False]


@pytest.mark.parametrize("name", ["v", "a b", 'say "hi"', "select", "ü"])
def test_any_name_of_a_column_is_quoted(con: Any, name: str) -> None:
    table = table_of([1.0, None], pa.float64(), name)
    assert broken(con, Rule("not_null", (name,)), table) == [False, True]
    con.register("rows", table)
    assert con.execute(f"SELECT max({quoted(name)}) FROM rows").fetchall() == [(1.0,)]


@pytest.mark.parametrize("negated", [False, True])
def test_rows_a_rule_speaks_of(con: Any, negated: bool) -> None:
    values = ["click", "it's", "view", None]
    con.register("rows", table_of(values, pa.string()))
    where = Where("v", ("click", "it's"), negated)
    found = con.execute(f"SELECT v FROM rows WHERE {condition(where)} ORDER BY n").fetchall()
    assert found == ([("view",)] if negated else [("click",), ("it's",)])
    assert str(where) == f"where v is {'not ' if negated else ''}click or it's"
