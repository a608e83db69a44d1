"""Evaluates one value of a record from a row, and fits it to the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from feature_repo.contract.attribute import attribute, scalar_text
from feature_repo.contract.json_batch import as_json
from feature_repo.contract.reasons import shown
from feature_repo.contract.records import Attribute
from feature_repo.errors import ContractError
from streaming.mapping.model import Field, Value
from streaming.mapping.paths import find
from streaming.mapping.times import to_time
from streaming.sources.column_types import typed_cell
from streaming.sources.source import identity

TRUTHS = {
    "true": True,
    "false": False,
    "yes": True,
    "no": False,
    "1": True,
    "0": False,
    "y": True,
    "n": False,
}
TIMES = ("event_time", "created_at")
WHOLE = object()
"""Placeholder for an id made from the whole record, until the record is complete."""


def evaluate(field: Field, row: Mapping[str, Any], name: str, time: Any = None) -> Any:
    """Return the first non-empty alternative, `None` if there is none.

    Args:
        field: alternatives.
        row: row of the file.
        name: name of the field in the contract, for messages.
        time: event time, for ids by user and day.

    Raises:
        ContractError: a value exists but does not fit.
    """
    for value in field:
        found = _evaluate(value, row, name, time)
        if not is_empty(found):
            return found
    return None


def is_empty(value: Any) -> bool:
    """Return whether a cell is empty."""
    return value is None or value in ("", [])


def _evaluate(value: Value, row: Mapping[str, Any], name: str, time: Any) -> Any:
    if value.constant is not None:
        return value.constant
    if value.day_of:
        found = _day_of(value, row, time)
    elif value.hash:
        if not value.columns:
            return WHOLE
        parts = [_text(find(row, column)) for column in value.columns]
        found = identity(*parts) if any(parts) else None
    else:
        found = _found(value, row)
    if is_empty(found):
        return value.default
    if name in TIMES:
        return to_time(found, value.format, value.zone, name)
    if value.split is not None and isinstance(found, str):
        return [value.prefix + part.strip() for part in found.split(value.split) if part.strip()]
    if value.decimal != "." and isinstance(found, str):
        found = found.replace(".", "?" if value.decimal == "," else "").replace(value.decimal, ".")
    return value.prefix + _text(found) if value.prefix else found


def _found(value: Value, row: Mapping[str, Any]) -> Any:
    cells: Iterable[Any] = (find(row, column) for column in value.columns)
    if value.join is not None:
        texts = [_text(cell) for cell in cells]
        return value.join.join(texts) if all(texts) else None
    present = (cell for cell in cells if not is_empty(cell))
    if not value.all:
        return next(present, None)
    return [part for cell in present for part in (cell if isinstance(cell, list) else [cell])]


def _day_of(value: Value, row: Mapping[str, Any], time: Any) -> str | None:
    user = next(
        (text for column in value.columns or value.day_of if (text := _text(find(row, column)))), None
    )
    if user is None or time is None:
        return None
    try:
        moment = time if isinstance(time, datetime) else datetime.fromtimestamp(time / 1000, UTC)
    except (
        TypeError,
        OverflowError,
        ValueError,
        OSError,
    ):  # the contract reports what is wrong with the time
        return None
    return f"{user}:{moment.astimezone(UTC):%Y-%m-%d}"


def _text(value: Any) -> str:
    return "" if is_empty(value) else as_text(value)


def as_text(value: Any) -> str:
    """Convert a value to text: nested values as JSON, a list of words joined by spaces."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    plain = scalar_text(value)
    return as_json(value).decode() if plain is None else plain


def as_attribute(value: Any, kind: str | None) -> Attribute:
    """Convert a value to an attribute of an item or user; text in a column of numbers becomes a number."""
    if isinstance(value, str):
        value = typed_cell(value, kind)
    found = attribute(value)
    return as_json(value).decode() if found is None else found


def fitted(name: str, value: Any) -> Any:
    """Convert a value to its field's form in the contract; leave one that does not fit to be rejected."""
    match name:
        case "event_time" | "created_at":
            return value
        case "position":
            return _number(value, int)
        case "price":
            return _number(value, float)
        case "consent":
            return value if isinstance(value, bool) else TRUTHS.get(str(value).strip().lower(), value)
        case "categories":
            return [as_text(part) for part in (value if isinstance(value, list | tuple) else [value])]
        case "items":
            return [_slot(slot) for slot in (value if isinstance(value, list | tuple) else [value])]
    if isinstance(value, Mapping):
        msg = f"{name}: {shown(value)} instead of text; name a field in it, e.g. a.b"
        raise ContractError("wrong_type", name, msg)
    return as_text(value)


def _slot(slot: Any) -> Any:
    return slot if isinstance(slot, Mapping) else {"item_id": as_text(slot)}


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            return value
    if isinstance(value, bool):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return int(number) if kind is int and number.is_integer() else number
