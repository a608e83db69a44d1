"""Finds values inside a row by dotted path: objects, key-value lists, JSON text, typed values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec

_TYPED = ("string_value", "int_value", "float_value", "double_value")
_TYPED_KEYS = frozenset({*_TYPED, "set_timestamp_micros"})
_ABSENT = object()


def find(fields: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path, `None` if there is none; a column with exactly that name comes first.

    For example, ``find(row, "event_params.ga_session_id")`` reads GA4's list of ``{key, value}``.
    """
    found = fields.get(path, _ABSENT)
    if found is not _ABSENT:
        return _leaf(found)
    if "." not in path:
        return None
    head, _, rest = path.partition(".")
    if head not in fields:
        return None
    found = fields[head]
    while rest:
        found, rest = _step(inner(found), rest)
        if found is None:
            return None
    return _leaf(found)


def elements(fields: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """Copy the row once per element of the list at a path; each copy has the element in the list's place.

    A row without the list, or with an empty one, stays one row.
    """
    found = inner(find(fields, path))
    if not isinstance(found, list) or not found:
        return [dict(fields)]
    parts = [path] if path in fields else path.split(".")
    return [_replaced(fields, parts, element) for element in found]


def _replaced(fields: Mapping[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    head, *rest = parts
    if not rest:
        return {**fields, head: value}
    outer = inner(fields.get(head))
    return {**fields, head: _replaced(outer if isinstance(outer, Mapping) else {}, rest, value)}


def _step(found: Any, path: str) -> tuple[Any, str]:
    """Take one step along a path; names that contain a dot are first tried whole."""
    head, _, rest = path.partition(".")
    match found:
        case Mapping():
            return (found[path], "") if path in found else (found.get(head), rest)
        case list():
            if head.isdecimal():
                return (found[int(head)] if int(head) < len(found) else None), rest
            for entry in found:
                match entry:
                    case {"key": key, "value": value} if key == head:
                        return value, rest
                    case (key, value) if key == head:  # Arrow's maps are lists of pairs
                        return value, rest
    return None, ""


def inner(found: Any) -> Any:
    """Unwrap a value to step into: decode JSON text, remove the wrapping of BigQuery's Parquet lists."""
    if isinstance(found, str) and found[:1] in ("{", "["):
        return _decoded(found)
    if isinstance(found, Mapping) and found.keys() == {"list"} and isinstance(found["list"], list):
        return [_element(element) for element in found["list"]]
    return found


@lru_cache(8)
def _decoded(text: str) -> Any:
    """Decode JSON text, cached because several fields use one column; return other text unchanged."""
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        return msgspec.json.decode(text)
    return text


def _element(found: Any) -> Any:
    if isinstance(found, Mapping) and len(found) == 1:
        (name,) = found
        if name in ("element", "item") and isinstance(found[name], Mapping):
            return found[name]
    return found


def _leaf(found: Any) -> Any:
    """Return a path's final value: the first non-null part of a typed value; NaN is absent."""
    if isinstance(found, Mapping) and found and found.keys() <= _TYPED_KEYS:
        return next((found[name] for name in _TYPED if found.get(name) is not None), None)
    if isinstance(found, float) and found != found:  # noqa: PLR0124 - NaN: pandas writes an empty cell so
        return None
    return found
