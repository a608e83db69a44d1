"""CSV and Parquet of the contract: which kind the columns are, whether their types fit, and typed cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from feature_repo.contract import RECORD_TYPES, Kind
from feature_repo.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED: dict[Kind, tuple[str, ...]] = {
    kind: tuple(f.name for f in msgspec.structs.fields(struct) if f.required)
    for kind, struct in RECORD_TYPES.items()
}
_NESTED = ("items", "properties", "attributes", "categories")


def kind_of(path: Path, columns: Collection[str], kind: Kind | None) -> Kind:
    """The kind of record a table holds, read off its columns unless given.

    Raises:
        SourceError: a required column is missing; names it.
    """
    if kind is None:
        if {"event_id", "event_type"} & set(columns):
            kind = "event"
        elif "item_id" in columns or "user_id" in columns:
            kind = "item" if "item_id" in columns else "user"
        else:
            msg = (
                f"{path}: columns {', '.join(columns)} are neither events (event_id, event_type, …), "
                "items (item_id, …) nor users (user_id, …); rename them, or give --format"
            )
            raise SourceError(msg)
    if missing := [name for name in REQUIRED[kind] if name not in columns]:
        needed = ", ".join(REQUIRED[kind])
        msg = f"{path}: missing column {', '.join(missing)}; a file of {kind}s needs {needed}"
        raise SourceError(msg)
    return kind


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
        if not any(test(found) for test in tests):
            msg = f"{path}: column {name} has type {found}; it should be {what}"
            raise SourceError(msg)


def _zoned(found: pa.DataType) -> bool:
    from pyarrow import types  # noqa: PLC0415

    return bool(types.is_timestamp(found)) and found.tz is not None


def typed(cells: Mapping[str, str], kind: Kind) -> dict[str, Any]:
    """Cells of a CSV row as the contract's types; empty cells are absent, unfit ones stay text.

    Nested fields are JSON or values parted by ``|``. Further columns of items and users become attributes.
    """
    fields: dict[str, Any] = {name: value for name, value in cells.items() if value != ""}
    own = {f.name for f in msgspec.structs.fields(RECORD_TYPES[kind])}
    for name, value in list(fields.items()):
        match name:
            case "position" | "schema_version" | "event_time" | "created_at":
                with suppress(ValueError):
                    fields[name] = int(value)
            case "price":
                fields[name] = _number(value)
            case "consent":
                fields[name] = {"true": True, "false": False}.get(value.lower(), value)
            case _ if name not in own and kind != "event" and name != "record":
                fields.setdefault("attributes", {})
                if isinstance(fields["attributes"], dict):
                    fields["attributes"][name] = _number(fields.pop(name))
    return {**fields, **decoded(fields)}


def decoded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The nested fields of a row that stand there as text, or as bare item ids, in the contract's form."""
    found: dict[str, Any] = {}
    for name in _NESTED:
        value = fields.get(name)
        if isinstance(value, str):
            if value[:1] in "[{":
                with suppress(msgspec.DecodeError):
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


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
