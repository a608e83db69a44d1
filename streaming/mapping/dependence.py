"""Whether a column says something about the thing another column names, and not about the row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streaming.mapping.paths import find
from streaming.mapping.values import as_text, is_empty

_MOST, _REPEATED = 0.95, 5


def depends(rows: Iterable[Mapping[str, Any]], key: str, column: str) -> bool:
    """Whether nearly every key has one value only, as far as keys repeat.

    For example, the price of a product does; the total of an order does not.
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
