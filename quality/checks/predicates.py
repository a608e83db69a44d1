"""Rules as DuckDB conditions."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from quality.checks.suites import Rule, Where


def breaks(rule: Rule, schema: pa.Schema) -> str:
    """Return SQL that is true for rows that break the rule; rows without a value break only ``not_null``."""
    column = quoted(rule.columns[0])
    dtype = schema.field(rule.columns[0]).type
    if rule.kind == "not_null":
        return f"{column} IS NULL"
    if rule.kind == "same_length":
        lengths = [f"coalesce(len({quoted(c)}), 0)" for c in rule.columns]
        return " OR ".join(f"{lengths[0]} <> {other}" for other in lengths[1:])
    if rule.kind == "length_between":
        size = f"len({column})" if pa.types.is_list(dtype) else f"strlen({column})"
        # An absent list is as bad as an empty one; an absent text is left to not_null.
        return _outside(f"coalesce({size}, 0)" if pa.types.is_list(dtype) else size, rule, floating=False)
    if pa.types.is_list(dtype):
        element = _value_breaks("x", rule, dtype.value_type)
        return f"len(list_filter({column}, lambda x: {element})) > 0"
    return _value_breaks(column, rule, dtype)


def _value_breaks(value: str, rule: Rule, dtype: pa.DataType) -> str:
    if rule.kind == "in_set":
        return f"{value} NOT IN ({', '.join(_literal(v) for v in rule.values)})"
    if rule.kind == "finite":
        return f"NOT isfinite({value})"
    return _outside(value, rule, floating=pa.types.is_floating(dtype))


def _outside(value: str, rule: Rule, *, floating: bool) -> str:
    parts = []
    if rule.minimum is not None:
        parts.append(f"{value} < {_literal(rule.minimum)}")
    if rule.maximum is not None:
        parts.append(f"{value} > {_literal(rule.maximum)}")
    if floating:
        # DuckDB orders NaN above every number, so NaN would pass a lower bound.
        parts.append(f"isnan({value})")
    return "(" + (" OR ".join(parts) or "false") + ")"


def condition(where: Where) -> str:
    """Return SQL that is true for the rows that a rule covers."""
    values = ", ".join(_literal(v) for v in where.values)
    return f"{quoted(where.column)} {'NOT ' if where.negated else ''}IN ({values})"


def quoted(column: str) -> str:
    """Quote a column name for SQL."""
    return '"' + column.replace('"', '""') + '"'


def _literal(value: str | float | datetime) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.isoformat()}'"
    return repr(value)
