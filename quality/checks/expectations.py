"""Rules as Great Expectations' expectations, judged on counts from DuckDB.

Great Expectations states what is expected, decides from the metrics whether it holds, and renders it. The
metrics come from `quality.checks.measure` instead of one of its execution engines (docs/adr/0040). Importing
this module imports Great Expectations, which takes seconds: import it inside the function that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, ClassVar

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.conditions import Column
from great_expectations.expectations.expectation import ColumnMapExpectation, MulticolumnMapExpectation
from great_expectations.expectations.metrics import ColumnMapMetricProvider
from great_expectations.expectations.metrics.map_metric_provider import (
    MulticolumnMapMetricProvider,
    column_condition_partial,
    multicolumn_condition_partial,
)

from quality.checks.measure import Measured, Measurement, type_text
from quality.checks.suites import Rule, Suite

_FORMAT = {"result_format": "BASIC"}
_SEVERITY = {"block": "critical", "warn": "warning"}


class ColumnValuesFinite(ColumnMapMetricProvider):  # type: ignore[misc]
    """Registers the metric's name with Great Expectations, and makes the expectation usable on pandas."""

    condition_metric_name = "column_values.finite"

    @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column: Any, **_: Any) -> Any:
        return column.map(lambda value: bool(np.all(np.isfinite(value))))


class MulticolumnListLengthsEqual(MulticolumnMapMetricProvider):  # type: ignore[misc]
    """Registers the metric's name with Great Expectations, and makes the expectation usable on pandas."""

    condition_metric_name = "multicolumn_values.list_lengths_equal"
    condition_domain_keys = (
        "batch_id",
        "table",
        "column_list",
        "row_condition",
        "condition_parser",
        "ignore_row_if",
    )

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: Any, **_: Any) -> Any:
        return column_list.map(len).nunique(axis=1) == 1


class ExpectColumnValuesToBeFinite(ColumnMapExpectation):  # type: ignore[misc]
    """No value (in list columns: no element) is NaN or infinite."""

    map_metric: ClassVar[str] = "column_values.finite"


class ExpectMulticolumnListLengthsToBeEqual(MulticolumnMapExpectation):  # type: ignore[misc]
    """In each row, the lists of these columns have equal lengths (an absent list has length 0)."""

    map_metric: ClassVar[str] = "multicolumn_values.list_lengths_equal"


def expectation_of(rule: Rule, suite: Suite) -> Any:
    """Return the expectation that states a rule."""
    common: dict[str, Any] = {"severity": _SEVERITY[rule.severity]}
    if rule.where is not None:
        column = Column(rule.where.column)
        values = rule.where.values
        common["row_condition"] = column.is_not_in(values) if rule.where.negated else column.is_in(values)
    if rule.kind == "columns":
        return gxe.ExpectTableColumnsToMatchSet(
            column_set=[f"{f.name} {type_text(f.type)}" for f in suite.schema],
            exact_match=suite.exact,
            **common,
        )
    bounds = {"min_value": rule.minimum, "max_value": rule.maximum}
    if rule.kind == "row_count_between":
        return gxe.ExpectTableRowCountToBeBetween(**bounds, **common)
    common["mostly"] = rule.mostly
    if rule.kind == "same_length":
        return ExpectMulticolumnListLengthsToBeEqual(column_list=list(rule.columns), **common)
    common["column"] = rule.columns[0]
    match rule.kind:
        case "not_null":
            return gxe.ExpectColumnValuesToNotBeNull(**common)
        case "unique":
            return gxe.ExpectColumnValuesToBeUnique(**common)
        case "between":
            return gxe.ExpectColumnValuesToBeBetween(**bounds, **common)
        case "in_set":
            return gxe.ExpectColumnValuesToBeInSet(value_set=list(rule.values), **common)
        case "length_between":
            return gxe.ExpectColumnValueLengthsToBeBetween(**bounds, **common)
        case "finite":
            return ExpectColumnValuesToBeFinite(**common)


def judge(suite: Suite, measurement: Measurement, now: datetime) -> ExpectationSuiteValidationResult:
    """Return Great Expectations' verdict on each rule, in the suite's order, stamped with `now`."""
    results = [
        _judge(expectation_of(rule, suite), measured, measurement)
        for rule, measured in zip(suite.rules, measurement.rules, strict=True)
    ]
    passed = sum(bool(result.success) for result in results)
    return ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=results,
        suite_name=suite.name,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100.0 * passed / len(results) if results else None,
        },
        meta={
            "great_expectations_version": gx.__version__,
            "run_id": RunIdentifier(run_name=suite.name, run_time=now),
        },
    )


def _judge(expectation: Any, measured: Measured, measurement: Measurement) -> ExpectationValidationResult:
    if measured.fault:
        return ExpectationValidationResult(
            success=False,
            expectation_config=expectation.configuration,
            result={"observed_value": escape(measured.fault)},
            exception_info={
                "raised_exception": False,
                "exception_message": None,
                "exception_traceback": None,
            },
        )
    wanted = expectation.get_validation_dependencies(runtime_configuration=dict(_FORMAT))
    metrics = {
        configuration.id: _metric(name, measured, measurement)
        for name, configuration in wanted.metric_configurations.items()
    }
    return expectation.metrics_validate(metrics=metrics, runtime_configuration=dict(_FORMAT))


def _metric(name: str, measured: Measured, measurement: Measurement) -> Any:
    """Return the value of one of Great Expectations' metrics.

    Raises:
        LookupError: an expectation needs a metric that is not measured, e.g. after an upgrade.
    """
    if name == "column_values.nonnull.unexpected_count":
        return measured.nulls
    if name == "table.columns":
        return [escape(column) for column in measurement.columns]
    known: Mapping[str, Any] = {
        "row_count": measured.rows,
        "filtered_row_count": measured.rows,
        "unexpected_count": measured.unexpected,
        # Great Expectations writes samples into its pages unescaped, and samples are untrusted.
        "unexpected_values": [escape(repr(sample)) for sample in measured.samples],
    }
    suffix = name.rpartition(".")[2]
    if suffix not in known:
        msg = f"Great Expectations asks for {name!r}, which is not measured; known: {', '.join(known)}"
        raise LookupError(msg)
    return known[suffix]


def verdicts(result: ExpectationSuiteValidationResult) -> Sequence[tuple[str, bool]]:
    """Return the name and outcome of each expectation."""
    return [(r.expectation_config.type, bool(r.success)) for r in result.results]
