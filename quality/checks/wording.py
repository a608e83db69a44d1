"""Describes in words what a check observed and what it wanted."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from quality.checks.suites import ANY_VALUE, Bound, Rule, Suite

if TYPE_CHECKING:
    from quality.checks.measure import Measured, Measurement

_TEXT = 60
_BROKEN = {
    "not_null": "null",
    "between": "outside",
    "in_set": "not known",
    "length_between": "too short or too long",
    "finite": "NaN or infinite",
    "same_length": "with lists of different lengths",
    "unique": "repeating another's value",
}


def wanted_text(rule: Rule, suite: Suite) -> str:
    """Describe the requirement, with the condition and the share of rows it applies to."""
    if rule.kind == "columns":
        return f"{'exactly ' if suite.exact else ''}the {len(suite.schema)} columns declared"
    return bounds_text(rule)


def bounds_text(rule: Rule) -> str:
    """Describe the requirement of a rule about rows or values."""
    text = _wanted(rule)
    if rule.where is not None:
        text += f" {rule.where}"
    if rule.mostly < 1 and rule.kind != "not_null":
        text += f" in at least {rule.mostly:.4g} of the rows"
    return text


def _wanted(rule: Rule) -> str:
    match rule.kind:
        case "columns":
            return "the columns declared"
        case "row_count_between":
            return f"{_range(rule.minimum, rule.maximum)} rows"
        case "not_null":
            if rule.mostly <= ANY_VALUE:
                return "a value in at least one row"
            return "no nulls" if rule.mostly == 1 else f"a share of nulls of at most {1 - rule.mostly:.4g}"
        case "unique":
            return "each value once"
        case "between":
            return f"values {_range(rule.minimum, rule.maximum)}"
        case "in_set":
            return f"one of {', '.join(rule.values)}"
        case "length_between":
            return f"a length {_range(rule.minimum, rule.maximum)}"
        case "finite":
            return "finite numbers"
        case "same_length":
            return "lists of equal length in each row"


def observed_text(rule: Rule, measured: Measured, suite: Suite, measurement: Measurement) -> str:
    """Describe the observation: counts, shares and a few offending values."""
    if rule.kind == "columns":
        return _columns(suite, measurement)
    if measured.fault:
        return measured.fault
    if rule.kind == "row_count_between":
        return f"{measured.rows:,} rows"
    base = measured.rows if rule.kind in {"not_null", "same_length"} else measured.rows - measured.nulls
    share = f" ({measured.unexpected / base:.4g})" if base and measured.unexpected else ""
    text = f"{measured.unexpected:,} of {base:,} rows {_BROKEN[rule.kind]}{share}"
    if measured.samples:
        text += f", e.g. {', '.join(_sample(v) for v in measured.samples)}"
    return text


def _columns(suite: Suite, measurement: Measurement) -> str:
    from quality.checks.measure import type_text  # noqa: PLC0415

    wanted = {f"{field.name} {type_text(field.type)}" for field in suite.schema}
    found = set(measurement.columns)
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    parts = []
    if missing:
        parts.append(f"missing {', '.join(missing)}")
    if extra and (suite.exact or missing):
        parts.append(f"found {', '.join(extra)}")
    return "; ".join(parts) or f"{len(found)} columns"


def _range(low: Bound, high: Bound) -> str:
    if low is not None and high is not None:
        return f"{_bound(low)} … {_bound(high)}"
    if low is not None:
        return f"≥ {_bound(low)}"
    return "any" if high is None else f"≤ {_bound(high)}"


def _bound(value: float | datetime) -> str:
    return value.isoformat() if isinstance(value, datetime) else f"{value:,.10g}"


def _sample(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else repr(value)
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
