"""Detects whether a column describes the thing named by another column, rather than the row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streaming.mapping.paths import find
from streaming.mapping.values import as_text, is_empty

_MOST, _REPEATED = 0.95, 5


def depends(rows: Iterable[Mapping[str, Any]], key: str, column: str) -> bool:
    """Return whether nearly every repeated key has only one value.

    For example, a product's price depends on the product; an order's total does not.
    """
    first: dict[str, str] = {}
    other: set[str] = set()
    again: set[str] = set()
    for row in rows:
        name, value = find(row, key), find(row, column)
        if is_empty(name) or is_empty(value):
            continue
        name, text = as_text(name), as_text(value)
        if name in first:
            again.add(name)
            if first[name] != text:
                other.add(name)
        else:
            first[name] = text
    return len(again) >= _REPEATED and len(other) <= (1 - _MOST) * len(again)
