"""Reads a mapping from TOML. Every error names the file, the key and a valid value."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feature_repo.contract.fields import ROOMS
from feature_repo.contract.validation import RECORD_TYPES, Kind
from feature_repo.errors import SourceError
from feature_repo.settings import BUILTIN_EVENT_WEIGHTS
from streaming.mapping.model import EventType, Field, RowMapping, Section, Value
from streaming.mapping.reading_values import ValueReader

KINDS: tuple[Kind, ...] = ("event", "item", "user")
_TOP = (*KINDS, "event_types", "explode", "columns", "header")
_HEAVIEST = 1e9
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def read_mapping(path: Path) -> RowMapping:
    """Read a mapping.

    Raises:
        SourceError: the file is missing, not TOML, or not a mapping.
    """
    try:
        return parse_mapping(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 ({error}); a mapping is TOML text"
        raise SourceError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot read ({error.strerror}); --suggest proposes a mapping"
        raise SourceError(msg) from error


def parse_mapping(text: str, name: str) -> RowMapping:
    """Read a mapping from its text; `name` is for messages.

    Raises:
        SourceError: the text is not TOML, or not a mapping.
    """
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f'{name}: not TOML ({error}); text goes in quotes, e.g. item_id = "sku"'
        raise SourceError(msg) from error
    return _Reader(name).mapping(fields)


class _Reader(ValueReader):
    def mapping(self, fields: Mapping[str, Any]) -> RowMapping:
        self.known(
            fields, _TOP, "", "a mapping has [event], [item], [user], [event_types], explode, columns, header"
        )
        sections = tuple(self._section(kind, fields[kind]) for kind in KINDS if kind in fields)
        if not sections:
            raise self.wrong(
                "", 'has no section; write at least [event], [item] or [user], e.g. [item]\nitem_id = "sku"'
            )
        header = fields.get("header")
        if header not in (None, "typed"):
            raise self.wrong(
                "header", f'{header!r}; only "typed" is known, for headers such as user_id:token'
            )
        return RowMapping(
            sections,
            self._event_types(fields.get("event_types", {})),
            self.text(fields, "explode", 'the path of a list, e.g. "events"'),
            self.texts(fields.get("columns", []), "columns"),
            header == "typed",
        )

    def _section(self, kind: Kind, found: Any) -> Section:
        room = ROOMS[kind]
        names = [n for n in RECORD_TYPES[kind].__struct_fields__ if n not in (room, "schema_version")]
        if not isinstance(found, dict):
            raise self.wrong(kind, f"should be a section: [{kind}] and its fields below it")
        self.known(
            found,
            (*names, room, "when", "files"),
            f"[{kind}] ",
            f"an {kind} has {', '.join(names)}, {room}"[:400],
        )
        fields = {n: self.field(found[n], f"[{kind}] {n}") for n in names if n in found}
        defaults = {"event_id": (Value(hash=True),)} if kind == "event" else {}
        needed = [f for f in _REQUIRED[kind] if f not in fields and f not in defaults]
        if needed:
            at = f"[{kind}] {needed[0]}"
            raise self.wrong(at, f"absent; {_EXAMPLES[needed[0]]}")
        values, rest = self._room(found.get(room, {}), f"[{kind}] {room}")
        return Section(
            kind,
            {**defaults, **fields},
            values,
            rest,
            self.when(found["when"], f"[{kind}] when") if "when" in found else None,
            self.text(found, "files", 'a pattern for file names, e.g. "*.inter*"'),
        )

    def _room(self, found: Any, key: str) -> tuple[dict[str, Field], str | None]:
        """Read a list of columns, a table name → value, ``*``, or the path of an object."""
        match found:
            case str():
                return {}, found
            case list():
                return {p.rsplit(".", 1)[-1]: (Value((p,)),) for p in self.texts(found, key)}, None
            case dict():
                return {name: self.field(value, f"{key}.{name}") for name, value in found.items()}, None
        raise self.wrong(
            key, 'should be a list of columns, a table name = "column", or "*" for all other columns'
        )

    def _event_types(self, found: Any) -> dict[str, EventType]:
        if not isinstance(found, dict):
            raise self.wrong(
                "event_types", 'should be a section: [event_types] and below it "Product Viewed" = "view"'
            )
        return {name: self._event_type(value, f"[event_types] {name!r}") for name, value in found.items()}

    def _event_type(self, found: Any, key: str) -> EventType:
        example = '"view", { type = "wishlist", weight = 2 } or { skip = true }'
        if isinstance(found, str):
            found = {"type": found}
        if not isinstance(found, dict):
            raise self.wrong(key, f"{found!r}; write {example}")
        self.known(found, ("type", "weight", "skip"), f"{key}: ", f"write {example}")
        if found.get("skip") is True and len(found) == 1:
            return EventType(None)
        name, weight = found.get("type"), found.get("weight")
        if not isinstance(name, str) or not _TYPE_NAME.fullmatch(name):
            raise self.wrong(key, f"type {name!r}; a type has small letters, digits and _, e.g. {example}")
        if weight is not None and (
            isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < _HEAVIEST
        ):
            raise self.wrong(key, f"weight {weight!r}; should be a number from 0 on, e.g. 2")
        if name in BUILTIN_EVENT_WEIGHTS:
            if weight is not None and weight != BUILTIN_EVENT_WEIGHTS[name]:
                raise self.wrong(
                    key,
                    f"{name} is built in; set it for all: HEADRACE_EVENT_WEIGHTS={name}={weight:g}",
                )
            return EventType(name)
        return EventType(name, 1.0 if weight is None else float(weight))


_REQUIRED: dict[Kind, tuple[str, ...]] = {
    "event": ("event_type", "event_time", "session_id"),
    "item": ("item_id",),
    "user": ("user_id",),
}
_EXAMPLES = {
    "event_type": 'write event_type = "action", or { value = "view" } when all rows are of one type',
    "event_time": 'write event_time = { column = "ts", format = "epoch_s" }, or format = "iso", zone = "UTC"',
    "session_id": 'write session_id = "session", or session_id = { day_of = "user" } when the file has none',
    "item_id": 'write item_id = "sku"',
    "user_id": 'write user_id = "customer"',
}
