from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import LakeError
from quality.checks.measure import file_source, measure, type_text
from quality.checks.suites import Rule, Suite, Where

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("kind", pa.string()),
        ("x", pa.float64()),
        ("values", pa.list_(pa.float64())),
        ("names", pa.list_(pa.string())),
    ]
)
RULES = (
    Rule("not_null", ("key",)),
    Rule("unique", ("key",)),
    Rule("between", ("x",), minimum=0, maximum=10),
    Rule("finite", ("x",)),
    Rule("between", ("values",), maximum=1),
    Rule("finite", ("values",)),
    Rule("in_set", ("kind",), values=("a", "b'c")),
    Rule("length_between", ("key",), minimum=1, maximum=3),
    Rule("length_between", ("names",), minimum=1),
    Rule("same_length", ("values", "names")),
    Rule("not_null", ("x",), where=Where("kind", ("a",))),
    Rule("between", ("x",), minimum=0, where=Where("kind", ("a",), negated=True)),
    Rule("row_count_between", minimum=1),
)
floats = st.floats(-20, 20) | st.sampled_from([math.nan, math.inf, -math.inf])
rows = st.fixed_dictionaries(
    {
        "key": st.none() | st.text("aé'", max_size=4),
        "kind": st.none() | st.sampled_from(["a", "b'c", "z"]),
        "x": st.none() | floats,
        "values": st.none() | st.lists(floats, max_size=3),
        "names": st.none() | st.lists(st.text("n", max_size=2), max_size=3),
    }
)


def breaks(rule: Rule, row: dict[str, Any]) -> bool:
    """The naive oracle: whether one row breaks a rule."""
    value = row[rule.columns[0]]
    if rule.kind == "not_null":
        return value is None
    if rule.kind == "same_length":
        return len({len(row[c] or ()) for c in rule.columns}) > 1
    if rule.kind == "length_between" and rule.columns == ("names",):
        return not value
    if value is None:
        return False
    if rule.kind == "length_between":
        size = len(value.encode())
        return not (rule.minimum or 0) <= size <= (rule.maximum or math.inf)  # type: ignore[operator]
    if rule.kind == "in_set":
        return value not in rule.values
    elements = value if isinstance(value, list) else [value]
    if rule.kind == "finite":
        return not all(math.isfinite(e) for e in elements)
    low = -math.inf if rule.minimum is None else rule.minimum
    high = math.inf if rule.maximum is None else rule.maximum
    return not all(low <= e <= high for e in elements)


def applies(rule: Rule, row: dict[str, Any]) -> bool:
    if rule.where is None:
        return True
    value = row[rule.where.column]
    return value is not None and (value in rule.where.values) != rule.where.negated


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=12))
def test_counts_equal_a_naive_loop(data: list[dict[str, Any]]) -> None:
    measurement = measure(Suite("s", SCHEMA, RULES), pa.Table.from_pylist(data, schema=SCHEMA))
    assert measurement.rows == len(data)
    for rule, measured in zip(RULES, measurement.rules, strict=True):
        mine = [row for row in data if applies(rule, row)]
        assert measured.rows == len(mine), rule
        if rule.kind == "row_count_between":
            continue
        assert measured.nulls == sum(all(row[c] is None for c in rule.columns) for row in mine), rule
        if rule.kind == "unique":
            counts = Counter(row["key"] for row in mine if row["key"] is not None)
            assert measured.unexpected == sum(n - 1 for n in counts.values()), rule
            assert set(measured.samples) <= {k for k, n in counts.items() if n > 1}
            continue
        assert measured.unexpected == sum(breaks(rule, row) for row in mine), rule
        assert len(measured.samples) <= 5


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def test_an_empty_table_measures_to_zero() -> None:
    measurement = measure(Suite("s", SCHEMA, RULES), SCHEMA.empty_table())
    assert measurement.rows == 0
    assert {m.unexpected for m in measurement.rules} == {0}


def test_no_files_is_an_empty_batch_without_columns() -> None:
    measurement = measure(Suite("s", SCHEMA, (Rule("columns"), Rule("not_null", ("key",)))), [])
    assert (measurement.rows, measurement.columns) == (0, ())
    assert measurement.rules[1].fault == "column key is absent"


def test_a_mistyped_column_is_a_fault_of_its_rules_and_of_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(key=["a"], x=["seven"]), path)
    schema = pa.schema([("key", pa.string()), ("x", pa.float64())])
    found = measure(Suite("s", schema, (Rule("finite", ("x",)), Rule("unique", ("key",)))), [str(path)])
    assert found.rules[0].fault == "column x is string, not double"
    assert (found.rules[1].fault, found.rules[1].unexpected) == ("", 0)


def test_files_that_disagree_on_a_type_are_reported(tmp_path: Path) -> None:
    pq.write_table(table(x=[1.0]), tmp_path / "a.parquet")
    pq.write_table(table(x=["one"]), tmp_path / "b.parquet")
    suite = Suite("s", pa.schema([("x", pa.float64())]), (Rule("finite", ("x",)),))
    found = measure(suite, file_source(tmp_path))
    assert found.rules[0].fault == "column x is double and string, not double"
    assert found.rows == 2


def test_a_condition_on_an_absent_column_is_a_fault() -> None:
    suite = Suite("s", SCHEMA, (Rule("not_null", ("key",), where=Where("kind", ("a",))),))
    assert measure(suite, table(key=["a"])).rules[0].fault == "column kind is absent"


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing of the kind", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_corrupt_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.parquet"
    path.write_bytes(content)
    with pytest.raises(
        LakeError, match=r"broken\.parquet: not a readable Parquet file .* write or ingest it again"
    ):
        measure(Suite("s", SCHEMA, RULES), [str(path)])


def test_pages_cut_out_of_a_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "torn.parquet"
    pq.write_table(table(key=[f"k{i}" for i in range(10_000)]), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[100:4000] = b"\xff" * 3900
    path.write_bytes(bytes(content))
    suite = Suite("s", pa.schema([("key", pa.string())]), (Rule("unique", ("key",)),))
    with pytest.raises(LakeError, match=r"torn\.parquet: not a readable Parquet file"):
        measure(suite, [str(path)])


def test_a_missing_path_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"gone\.parquet: no such file; build the group first"):
        file_source(tmp_path / "gone.parquet")


def test_times_compare_in_utc() -> None:
    schema = pa.schema([("t", pa.timestamp("us", tz="UTC"))])
    data = pa.table(
        {"t": [datetime(2024, 6, 1, 23, 59, tzinfo=UTC), datetime(2024, 6, 2, tzinfo=UTC)]}, schema
    )
    rule = Rule("between", ("t",), maximum=datetime(2024, 6, 1, 23, 59, 59, tzinfo=UTC))
    found = measure(Suite("s", schema, (rule,)), data).rules[0]
    assert found.unexpected == 1
    assert found.samples[0] == datetime(2024, 6, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.dictionary(pa.int32(), pa.string()), "string"),
        (pa.large_list(pa.field("element", pa.large_string())), "list[string]"),
        (pa.map_(pa.string(), pa.string()), "map[string, string]"),
        (pa.struct([("a", pa.int64())]), "struct[a: int64]"),
        (pa.timestamp("us", tz="Etc/UTC"), "timestamp[us, UTC]"),
        (pa.timestamp("ms"), "timestamp[ms, no zone]"),
    ],
)
def test_type_names_leave_out_how_a_writer_laid_them_out(dtype: pa.DataType, text: str) -> None:
    assert type_text(dtype) == text
