"""Why a record is refused: the words for each way in which text, types and times may be wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import msgspec

from feature_repo.errors import ContractError


def not_json(raw: bytes | str, error: Exception) -> ContractError:
    """Why a line is no JSON text: its encoding, or its syntax."""
    try:
        raw.decode() if isinstance(raw, bytes) else raw.encode()
    except UnicodeError as wrong:
        msg = f"not valid UTF-8 ({wrong}); save the file in UTF-8"
        return ContractError("not_utf8", "", msg)
    msg = f"not valid JSON: {error}; write one JSON object per line"
    return ContractError("not_json", "", msg)


_FIELD_AT = re.compile(r" - at `\$?\.?([^`]*)`")


def explain(error: msgspec.MsgspecError, unknown: Sequence[str] = ()) -> ContractError:
    """Map msgspec's message to a code, the field and a sentence.

    Args:
        unknown: names of the record that are no fields: one of them may be the absent field, misspelt.
    """
    text = str(error)
    match = _FIELD_AT.search(text)
    field = match.group(1) if match else ""
    what = _FIELD_AT.sub("", text)
    if missing := re.search(r"missing required field `(\w+)`", what):
        field = f"{field}.{missing.group(1)}".lstrip(".")
        likely = get_close_matches(field, unknown, n=1)
        hint = f"; rename {likely[0]!r}, which is no field" if likely else ""
        return ContractError("missing_field", field, f"{field}: required and absent{hint}")
    code = "wrong_type" if what.startswith("Expected `") and ", got `" in what else "bad_value"
    return ContractError(code, field, f"{field or 'record'}: {what[:1].lower()}{what[1:]}")


def to_utc(value: Any, name: str) -> Any:
    """ISO 8601 text, epoch milliseconds or a datetime to UTC; anything else is left to msgspec."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value / 1000, UTC)
        except (OverflowError, ValueError, OSError) as error:
            msg = f"{name}: {value} is no time in epoch milliseconds; 2024-01-01 is 1704067200000"
            raise ContractError("time_out_of_range", name, msg) from error
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            msg = f"{name}: {value!r} is no ISO 8601 time; write e.g. 2024-01-01T12:00:00Z"
            raise ContractError("bad_value", name, msg) from error
    if isinstance(value, datetime):
        if value.tzinfo is None:
            msg = f"{name}: {value.isoformat()} has no time zone; write e.g. {value.isoformat()}Z"
            raise ContractError("bad_value", name, msg)
        try:
            utc = value.astimezone(UTC)
            # Nanoseconds come out of Arrow as pandas' own kind of datetime, which msgspec does not take.
            return utc if type(utc) is datetime else datetime.combine(utc.date(), utc.time(), UTC)
        except OverflowError as error:  # within hours of the year 1 or 9999, and over the edge in UTC
            msg = f"{name}: {value.isoformat()} is outside the years 1 to 9999 in UTC"
            raise ContractError("time_out_of_range", name, msg) from error
    return value


def json_type(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
