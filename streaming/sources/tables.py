"""CSV and Parquet of the contract: which kind the columns are, whether their types fit, and typed cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from feature_repo.contract.validation import RECORD_TYPES, Kind
from feature_repo.errors import SourceError
from streaming.sources.column_types import typed_cell

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED: dict[Kind, tuple[str, ...]] = {
    kind: tuple(f.name for f in msgspec.structs.fields(struct) if f.required)
    for kind, struct in RECORD_TYPES.items()
}
KeyCells: TypeAlias = Callable[[str], Sequence[Any]]
_FIELDS: dict[Kind, tuple[str, ...]] = {
    kind: struct.__struct_fields__ for kind, struct in RECORD_TYPES.items()
}
_TIME = r"^(ts|time|timestamp|datetime|date)$|(^|_)(event|action|session|%s)s?(_|$)"
_OF_EVENTS: dict[str, re.Pattern[str]] = {
    "item": re.compile(_TIME % "user|visitor|customer|uid|userid|visitorid"),
    "user": re.compile(_TIME % "item|product|sku|itemid"),
}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NESTED = ("items", "properties", "attributes", "categories")


def kind_of(path: Path, columns: Collection[str], kind: Kind | None, keys: KeyCells | None = None) -> Kind:
    """The kind of record a table holds: as declared, or where its columns leave no doubt.

    Args:
        path: for messages.
        columns: names.
        kind: as declared, else `None`.
        keys: gives the first values of a column: a key that repeats is that of an event's item or user.

    Raises:
        SourceError: a required column is missing, or the columns fit several kinds.
    """
    kind = kind or _unmistakable(path, columns, keys)
    if missing := [name for name in REQUIRED[kind] if name not in columns]:
        needed = ", ".join(REQUIRED[kind])
        msg = f"{path}: missing column {', '.join(missing)}; a file of {kind}s needs {needed}"
        raise SourceError(msg)
    return kind


def _unmistakable(path: Path, columns: Collection[str], keys: KeyCells | None) -> Kind:
    if {"event_id", "event_type"} & set(columns):
        return "event"
    kind: Kind = "item" if "item_id" in columns else "user"
    if f"{kind}_id" not in columns:
        msg = (
            f"{path}: columns {', '.join(columns)} are neither events (event_id, event_type, …), "
            "items (item_id, …) nor users (user_id, …); --suggest proposes a mapping, --format names a "
            "known shape"
        )
        raise SourceError(msg)
    doubts = [n for n in columns if n not in _FIELDS[kind] and _is_of_events(n, kind)]
    why = f"column {', '.join(doubts)}" if doubts else ""
    if not doubts and keys is not None:
        cells = [cell for cell in keys(f"{kind}_id") if cell is not None]
        why = f"{kind}_id repeats" if len(cells) > len(set(cells)) else ""
    if why:
        msg = (
            f"{path}: {kind}s or events? ({why}); say so: --kind {kind}s, or --kind events with "
            f"columns {', '.join(REQUIRED['event'])}"
        )
        raise SourceError(msg)
    return kind


def _is_of_events(column: str, kind: Kind) -> bool:
    """Whether a table of items or users would hardly have such a column."""
    return column in _FIELDS["event"] or bool(_OF_EVENTS[kind].search(column.lower()))


def check_types(path: Path, schema: pa.Schema, kind: Kind) -> None:
    """Whether the columns of a Parquet file can hold what the contract wants.

    Raises:
        SourceError: one cannot; names file, column, its type and the right ones.
    """
    from pyarrow import types  # noqa: PLC0415

    text = ("text", types.is_string, types.is_large_string, types.is_dictionary, types.is_null)
    nested = (types.is_list, types.is_large_list, types.is_struct, types.is_map, *text[1:])
    wanted: dict[str, tuple[Any, ...]] = {
        "event_time": (
            "a timestamp with zone, text or epoch milliseconds",
            _zoned,
            types.is_integer,
            *text[1:],
        ),
        "created_at": (
            "a timestamp with zone, text or epoch milliseconds",
            _zoned,
            types.is_integer,
            *text[1:],
        ),
        "position": ("an integer", types.is_integer, types.is_null),
        "schema_version": ("an integer", types.is_integer, types.is_null),
        "price": ("a number", types.is_integer, types.is_floating, types.is_null),
        "consent": ("a boolean", types.is_boolean, types.is_null),
        "items": ("a list of item ids, or of structs with item_id and score", *nested),
        "properties": ("a map of text, or JSON text", *nested),
        "attributes": ("a map, or JSON text", *nested),
        "categories": ("a list of text", *nested),
    }
    for name in schema.names:
        if name not in (f.name for f in msgspec.structs.fields(RECORD_TYPES[kind])):
            continue
        what, *tests = wanted.get(name, text)
        found = schema.field(name).type
        if types.is_timestamp(found) and not _is_known(found.tz):
            msg = f"{path}: column {name} has the time zone {found.tz}, unknown here; write it in UTC"
            raise SourceError(msg)
        if not any(test(found) for test in tests):
            msg = f"{path}: column {name} has type {found}; it should be {what}"
            raise SourceError(msg)


def _is_known(zone: str | None) -> bool:
    if zone is None or re.fullmatch(r"[+-][0-9]{2}:[0-9]{2}", zone):
        return True
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _zoned(found: pa.DataType) -> bool:
    from pyarrow import types  # noqa: PLC0415

    return bool(types.is_timestamp(found)) and found.tz is not None


def further(columns: Collection[str], kind: Kind) -> list[str]:
    """Columns of items and users that the contract does not name: they become attributes."""
    return [n for n in columns if kind != "event" and n not in _FIELDS[kind] and n != "record"]


def typed(cells: Mapping[str, str], kind: Kind, types: Mapping[str, str]) -> dict[str, Any]:
    """Cells of a CSV row as the contract's types; empty cells are absent, unfit ones stay text.

    Nested fields are JSON or values separated by ``|``. Further columns of items and users are of the types
    their whole columns show.
    """
    fields: dict[str, Any] = {name: value for name, value in cells.items() if value != ""}
    for name, value in fields.items():
        match name:
            case "position" | "schema_version" | "event_time" | "created_at":
                fields[name] = int(value) if _INTEGER.fullmatch(value) else value
            case "price":
                fields[name] = _number(value, types.get(name))
            case "consent":
                fields[name] = {"true": True, "false": False}.get(value.lower(), value)
            case _ if kind != "event" and name not in _FIELDS[kind] and name != "record":
                kind_of_column = types.get(name)
                fields[name] = typed_cell(value, kind_of_column) if kind_of_column else listed(value)
    return {**fields, "record": fields.get("record", kind), **decoded(fields)}


def listed(cell: str) -> str | list[str]:
    """A cell as the list of texts it shows, as JSON or separated by ``|``; else the text itself."""
    if cell.startswith("["):
        try:
            return msgspec.json.decode(cell, type=list[str])
        except (msgspec.MsgspecError, UnicodeError):
            return cell
    parts = cell.split("|")
    return parts if len(parts) > 1 and all(part and part == part.strip() for part in parts) else cell


def _number(cell: str, kind: str | None) -> float | str:
    text = cell if kind is None else cell.replace(".", "?").replace(",", ".")  # a dot groups thousands there
    return float(text) if _NUMBER.fullmatch(text) else cell


def decoded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The nested fields of a row that stand there as text, or as bare item ids, in the contract's form."""
    found: dict[str, Any] = {}
    for name in _NESTED:
        value = fields.get(name)
        if isinstance(value, str):
            if value[:1] in "[{":
                with suppress(msgspec.DecodeError, RecursionError):
                    value = msgspec.json.decode(value)
            elif name in ("items", "categories"):
                value = [part for part in value.split("|") if part]
            found[name] = value
        if name == "items" and isinstance(value, list):
            found[name] = [{"item_id": slot} if isinstance(slot, str) else slot for slot in value]
    return found


def pair(entry: Any) -> tuple[str, Any]:
    """One entry of an Arrow list: a key with its value, or the lake's ``{name, values, number}``."""
    if isinstance(entry, dict) and "name" in entry:
        return entry["name"], entry["number"] if entry.get("number") is not None else entry.get("values")
    name, value = entry if isinstance(entry, tuple) else ("", entry)
    return name, value
