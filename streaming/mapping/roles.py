"""Assigns the columns of a sample to roles in a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streaming.mapping.profile import Column
from streaming.mapping.synonyms import event_type_of, likeness
from streaming.mapping.values import TRUTHS

MOST_TYPES = 60
"""Maximum number of distinct values in a column of event types."""
_LIKELY, _HALF = 2.0, 0.5


def roles_of(columns: Mapping[str, Column], names: Iterable[str], rows: int) -> dict[str, str]:
    """Assign the best column to each role, each column once, the surest pair first."""
    pairs = [(_score(column, role, rows), role, path) for path, column in columns.items() for role in names]
    found: dict[str, str] = {}
    for score, role, path in sorted(pairs, key=lambda p: (-p[0], p[1], p[2])):
        if score > 0 and role not in found and path not in found.values():
            found[role] = path
    return found


def _score(column: Column, role: str, rows: int) -> float:
    """Score how well a column fits a role, by name and values; 0 if the values rule it out."""
    name = likeness(column.path, role)
    if role == "event_time":
        return _as_time(column, name)
    if role == "event_type":
        return _as_type(column, name)
    return name if _may_be(column, role, rows, sure=name >= _LIKELY) else 0


def _as_time(column: Column, name: float) -> float:
    if column.time is None:
        return 0
    # A number may also be an id, so without a time-like name it is not a time.
    return name + 2 if name else float(not column.time[0].startswith("epoch"))


def _as_type(column: Column, name: float) -> float:
    if len(column.values) > MOST_TYPES or (column.is_number and name < _LIKELY):
        return 0
    known = sum(event_type_of(value)[2] for value in column.values) / len(column.values)
    return name + known if name >= _LIKELY or known > _HALF else 0


def _may_be(column: Column, role: str, rows: int, *, sure: bool) -> bool:
    """Return whether the values allow the role; `sure` means that the name leaves no doubt."""
    match role:
        case "event_id":
            return sure and column.is_unique and column.filled == rows
        case "price":
            return column.is_number or column.has_comma
        case "position":
            return sure and column.is_number
        case "created_at":
            return column.time is not None
        case "consent":
            return sure and {value.lower() for value in column.values} <= TRUTHS.keys()
        case "query":
            return sure and not column.is_number
        case "title" | "categories":
            return not column.is_number
    return column.time is None or column.is_number
