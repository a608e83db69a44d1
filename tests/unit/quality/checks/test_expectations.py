"""What Great Expectations decides from our counts equals what its own pandas engine decides from the rows."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quality.checks.measure import Measured, Measurement, measure
from quality.checks.plain_rules import NAMES, holds
from quality.checks.suites import ANY_VALUE, Rule, Suite, Where

NOW = datetime(2024, 6, 1, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("kind", pa.string()),
        ("x", pa.float64()),
        ("a", pa.list_(pa.float64())),
        ("b", pa.list_(pa.string())),
    ]
)
RULES = (
    Rule("row_count_between", minimum=2, maximum=6),
    Rule("not_null", ("x",)),
    Rule("not_null", ("x",), mostly=0.5),
    Rule("not_null", ("x",), mostly=ANY_VALUE, severity="warn"),
    Rule("unique", ("key",)),
    Rule("between", ("x",), minimum=0),
    Rule("between", ("x",), minimum=0, maximum=5, mostly=0.6),
    Rule("in_set", ("kind",), values=("a", "b"), mostly=0.7),
    Rule("length_between", ("key",), minimum=1, maximum=2),
    Rule("finite", ("a",)),
    Rule("same_length", ("a", "b")),
)
rows = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["", "k", "kk", "kkk"]),
        "kind": st.sampled_from(["a", "b", "z"]),
        "x": st.none() | st.floats(-3, 8),
        "a": st.lists(st.sampled_from([1.0, float("inf")]), max_size=2),
        "b": st.lists(st.sampled_from(["n"]), max_size=2),
    }
)


def theirs(expectation: Any, data: pa.Table) -> bool:
    """Great Expectations on the rows themselves."""
    from great_expectations.core.batch import Batch
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.validator.validator import Validator

    batch = Batch(data=data.to_pandas())
    validator = Validator(execution_engine=PandasExecutionEngine(), batches=[batch])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        [result] = validator.graph_validate(
            configurations=[expectation.configuration], runtime_configuration={"result_format": "BASIC"}
        )
    assert not (result.exception_info or {}).get("raised_exception"), result.exception_info
    return bool(result.success)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rows, min_size=1, max_size=8))
def test_verdicts_equal_those_of_great_expectations_engine(data: list[dict[str, Any]]) -> None:
    from quality.checks.expectations import expectation_of, judge

    table = pa.Table.from_pylist(data, schema=SCHEMA)
    suite = Suite("s", SCHEMA, RULES)
    ours = [bool(r.success) for r in judge(suite, measure(suite, table), NOW).results]
    assert ours == [theirs(expectation_of(rule, suite), table) for rule in RULES]


def test_a_metric_nobody_measured_raises_instead_of_passing() -> None:
    from quality.checks.expectations import _metric

    measurement = Measurement(1, (), ())
    with pytest.raises(
        LookupError, match=r"asks for 'column\.mean', which is not measured; known: row_count"
    ):
        _metric("column.mean", Measured(1), measurement)


def test_a_rule_that_could_not_be_measured_fails_with_its_fault() -> None:
    from quality.checks.expectations import judge

    suite = Suite("s", SCHEMA, (Rule("finite", ("x",)),))
    result = judge(suite, measure(suite, pa.table({"x": ["<b>seven</b>"]})), NOW)
    assert not result.success
    assert result.results[0].result["observed_value"] == "column x is string, not double"
    assert result.statistics["unsuccessful_expectations"] == 1


@pytest.mark.parametrize(
    ("rule", "kind", "severity"),
    [
        (Rule("columns"), "expect_table_columns_to_match_set", "critical"),
        (Rule("row_count_between", minimum=1), "expect_table_row_count_to_be_between", "critical"),
        (Rule("finite", ("x",), severity="warn"), "expect_column_values_to_be_finite", "warning"),
        (Rule("same_length", ("a", "b")), "expect_multicolumn_list_lengths_to_be_equal", "critical"),
        (
            Rule("unique", ("key",), where=Where("kind", ("a",))),
            "expect_column_values_to_be_unique",
            "critical",
        ),
    ],
)
def test_each_rule_is_an_expectation_with_its_severity(rule: Rule, kind: str, severity: str) -> None:
    from quality.checks.expectations import expectation_of

    expectation = expectation_of(rule, Suite("s", SCHEMA, (rule,)))
    assert expectation.configuration.type == kind
    assert expectation.configuration.severity.value == severity


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rows, max_size=8))
def test_what_plainly_holds_great_expectations_passes(data: list[dict[str, Any]]) -> None:
    from quality.checks.expectations import judge, verdicts

    suite = Suite("s", SCHEMA, (Rule("columns"), *RULES, Rule("finite", ("x",), where=Where("kind", ("a",)))))
    measurement = measure(suite, pa.Table.from_pylist(data, schema=SCHEMA))
    for rule, measured, (name, passed) in zip(
        suite.rules, measurement.rules, verdicts(judge(suite, measurement, NOW)), strict=True
    ):
        assert name == NAMES[rule.kind]
        assert passed or not holds(rule, measured, suite, measurement), rule


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([r for r in RULES if r.columns]),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_counts_that_plainly_hold_pass_whatever_they_are(rule: Rule, rows: int, nulls: int, bad: int) -> None:
    from quality.checks.expectations import judge

    nulls = min(rows, nulls)
    measured = Measured(rows, nulls, min(bad, rows - nulls))
    suite, measurement = Suite("s", SCHEMA, (rule,)), Measurement(rows, (), (measured,))
    if holds(rule, measured, suite, measurement):
        assert judge(suite, measurement, NOW).success


def test_what_breaks_or_could_not_be_measured_never_plainly_holds() -> None:
    suite = Suite("s", SCHEMA, (Rule("columns"),))
    table = Measurement(10, ("key string", "extra string"), ())
    assert not holds(Rule("columns"), Measured(10), suite, table)
    for rule in RULES:
        assert not holds(rule, Measured(10, fault="column x is string, not double"), suite, table)
    assert not holds(RULES[0], Measured(7), suite, table)
    assert holds(RULES[0], Measured(6), suite, table)
    assert not holds(Rule("finite", ("x",)), Measured(10, 0, 1), suite, table)
    edge = Rule("between", ("x",), minimum=0, mostly=0.9)
    assert not holds(edge, Measured(10, 0, 1), suite, table)
    assert holds(edge, Measured(100, 0, 1), suite, table)
