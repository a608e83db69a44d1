"""Explains why a record is rejected: the wording for faults in text, types and times."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import islice
from reprlib import Repr
from typing import Any

import msgspec

from feature_repo.contract.records import Attribute
from feature_repo.errors import ContractError

_LONGEST = 120
"""Maximum length of a value or name repeated in a message."""
_COMPARED = 100
"""Maximum number of names compared with a misspelt one."""


def not_json(raw: bytes | str, error: Exception) -> ContractError:
    """Explain why a line is not JSON text: its encoding, or its syntax."""
    if isinstance(error, RecursionError):
        return ContractError("not_json", "", "nested too deeply; send objects of a few levels")
    try:
        raw.decode() if isinstance(raw, bytes) else raw.encode()
    except UnicodeError as wrong:
        msg = f"not valid UTF-8 ({wrong}); save the file in UTF-8"
        return ContractError("not_utf8", "", msg)
    if _has_half_pair(raw):
        msg = "not Unicode text: half a surrogate pair (such as \\ud83d alone); send whole characters"
        return ContractError("not_utf8", "", msg)
    msg = f"not valid JSON: {error}; write one JSON object per line"
    return ContractError("not_json", "", msg)


def _has_half_pair(raw: bytes | str) -> bool:
    """Return whether the text is JSON except for a half character, which msgspec reports as truncation."""
    try:
        json.dumps(json.loads(raw), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


class _Short(Repr):
    def repr_int(self, x: int, level: int) -> str:
        """Avoid printing more than 4,300 digits, which Python refuses."""
        digits = x.bit_length() * 3 // 10
        return super().repr_int(x, level) if digits < _LONGEST else f"a number of about {digits:,} digits"


_short = _Short()
_short.maxstring = _short.maxother = _short.maxlong = _LONGEST


def shown(value: Any) -> str:
    """Return a value for a message: short, on one line, in Unicode."""
    return _short.repr(value)


def cut(name: Any) -> str:
    """Return a field's name for a message: short and in Unicode."""
    text = str(name)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return text.encode("utf-8", "backslashreplace").decode()


def key(room: str, name: Any) -> str:
    """Return the path of an attribute or property, e.g. ``attributes["brand"]``."""
    return f"{room}[{json.dumps(cut(name), ensure_ascii=False)}]"


_FIELD_AT = re.compile(r" - at `(?:key` in `)?\$?\.?([^`]*)`")
_ANY_KEY = "[...]"


def explain(
    error: msgspec.MsgspecError, unknown: Sequence[Any] = (), fields: Mapping[str, Any] | None = None
) -> ContractError:
    """Map msgspec's message to a code, the field and a sentence.

    Args:
        unknown: names in the record that are not fields; one of them may be the missing field, misspelt.
        fields: the validated object, to name the faulty attribute or property.
    """
    text = str(error)
    match = _FIELD_AT.search(text)
    field = match.group(1) if match else ""
    if fields is not None and _ANY_KEY in field:
        field = _with_key(field, fields)
    what = _FIELD_AT.sub("", text)[: 4 * _LONGEST]
    if missing := re.search(r"missing required field `(\w+)`", what):
        field = f"{field}.{missing.group(1)}".lstrip(".")
        likely = get_close_matches(field, _similar(field, unknown), n=1)
        hint = f"; rename {likely[0]!r}, which is no field" if likely else ""
        return ContractError("missing_field", field, f"{field}: required and absent{hint}")
    code = "wrong_type" if what.startswith("Expected `") and ", got `" in what else "bad_value"
    return ContractError(code, field, f"{field or 'record'}: {what[:1].lower()}{what[1:]}")


def _with_key(field: str, fields: Mapping[str, Any]) -> str:
    """The path of an attribute or property with its name, which msgspec leaves out."""
    room, _, rest = field.partition(_ANY_KEY)
    of = fields.get(room)
    wanted: Any = str if room == "properties" else Attribute
    for name, value in of.items() if isinstance(of, Mapping) else ():
        if isinstance(value, str):
            continue
        try:
            msgspec.convert(value, wanted)
        except msgspec.ValidationError:
            return f"{key(room, name)}{rest}"
    return field


def _similar(field: str, names: Sequence[Any]) -> list[str]:
    """Some names of about the same length: comparing spellings is slow."""
    near = (n for n in names if isinstance(n, str) and abs(len(n) - len(field)) <= len(field) // 2)
    return list(islice(near, _COMPARED))


def to_utc(value: Any, name: str) -> Any:
    """Convert ISO 8601 text, epoch milliseconds or a datetime to UTC; leave anything else to msgspec."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value / 1000, UTC)
        except (OverflowError, ValueError, OSError) as error:
            msg = f"{name}: {shown(value)} is no time in epoch milliseconds; 2024-01-01 is 1704067200000"
            raise ContractError("time_out_of_range", name, msg) from error
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            msg = f"{name}: {shown(value)} is no ISO 8601 time; write e.g. 2024-01-01T12:00:00Z"
            raise ContractError("bad_value", name, msg) from error
    if isinstance(value, datetime):
        if value.tzinfo is None:
            msg = f"{name}: {value.isoformat()} has no time zone; write e.g. {value.isoformat()}Z"
            raise ContractError("bad_value", name, msg)
        try:
            utc = value.astimezone(UTC)
            # Arrow returns nanoseconds as pandas' own datetime type, which msgspec rejects.
            return utc if type(utc) is datetime else datetime.combine(utc.date(), utc.time(), UTC)
        except OverflowError as error:  # within hours of the year 1 or 9999, and out of range in UTC
            msg = f"{name}: {value.isoformat()} is outside the years 1 to 9999 in UTC"
            raise ContractError("time_out_of_range", name, msg) from error
    return value


def json_type(value: Any) -> str:
    """Return JSON's name for the type of a value."""
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
