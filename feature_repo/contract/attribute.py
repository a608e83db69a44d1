"""Converts any value to an attribute by one rule, whatever file or request it came in.

Numbers stay numbers if a float holds them exactly; text stays text; a list becomes a list of texts; anything
else (a time, a date, a boolean) becomes its JSON text.
"""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from feature_repo.contract.records import EXACT, Attribute

_INTEGER_BITS = 10_000  # Python prints at most 4,300 digits


def attribute(value: Any) -> Attribute | None:
    """Convert a value to an attribute; `None` if its only form is JSON text."""
    match value:
        case str():
            return value
        case bool():
            return scalar_text(value)
        case int() | Decimal() if _is_exact(value):
            return float(value)
        case float():
            return value
        case list() | tuple():
            present = (part for part in value if part is not None)
            texts = [part if isinstance(part, str) else scalar_text(part) for part in present]
            return None if None in texts else [text for text in texts if text is not None]
    return scalar_text(value)


def scalar_text(value: Any) -> str | None:
    """Return the text of a value that is neither text nor nested; `None` for others."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if value.bit_length() <= _INTEGER_BITS else None
        case float():
            return str(value)
        case Decimal():
            return format(value, "f")
        case datetime():
            utc = value.astimezone(UTC) if value.tzinfo else value
            return utc.isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(msgspec.to_builtins(value))
        case UUID():
            return str(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return base64.b64encode(value).decode()
    return None


def _is_exact(value: int | Decimal) -> bool:
    if isinstance(value, int):
        return abs(value) <= EXACT
    return value.is_finite() and Decimal(repr(float(value))) == value
