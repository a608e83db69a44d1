"""Rules that clearly hold by the counts alone, so that Great Expectations need not be loaded.

This shortcut only passes rules; `quality.checks.expectations` judges everything else (docs/adr/0033).
"""

from __future__ import annotations

from datetime import datetime

from quality.checks.measure import Measured, Measurement, type_text
from quality.checks.suites import Kind, Rule, Suite

NAMES: dict[Kind, str] = {
    "columns": "expect_table_columns_to_match_set",
    "row_count_between": "expect_table_row_count_to_be_between",
    "not_null": "expect_column_values_to_not_be_null",
    "unique": "expect_column_values_to_be_unique",
    "between": "expect_column_values_to_be_between",
    "in_set": "expect_column_values_to_be_in_set",
    "length_between": "expect_column_value_lengths_to_be_between",
    "finite": "expect_column_values_to_be_finite",
    "same_length": "expect_multicolumn_list_lengths_to_be_equal",
}
"""Great Expectations' name of each kind of rule."""
_EDGE = 1e-9
"""Shares this close to the bound are not clear cases, because rounding would decide."""


def all_hold(suite: Suite, measurement: Measurement) -> bool:
    """Return whether every rule clearly holds."""
    return all(
        holds(rule, measured, suite, measurement)
        for rule, measured in zip(suite.rules, measurement.rules, strict=True)
    )


def holds(rule: Rule, measured: Measured, suite: Suite, measurement: Measurement) -> bool:
    """Return whether a rule clearly holds; false if it fails or is close to the bound."""
    if measured.fault:
        return False
    if rule.kind == "columns":
        declared, found = {f"{f.name} {type_text(f.type)}" for f in suite.schema}, set(measurement.columns)
        return declared == found if suite.exact else declared <= found
    if rule.kind == "row_count_between":
        return _within(measured.rows, rule)
    broken = measured.nulls if rule.kind == "not_null" else measured.unexpected
    of = measured.rows if rule.kind in {"not_null", "same_length"} else measured.rows - measured.nulls
    return broken == 0 or (of > 0 and (of - broken) / of > rule.mostly + _EDGE)


def _within(rows: int, rule: Rule) -> bool:
    low, high = rule.minimum, rule.maximum
    if isinstance(low, datetime) or isinstance(high, datetime):
        return False
    return (low is None or rows >= low) and (high is None or rows <= high)
