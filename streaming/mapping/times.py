"""Converts times in files to UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from feature_repo.clock import time_of
from feature_repo.contract.reasons import shown
from feature_repo.errors import ContractError

_MICROSECONDS = {
    "epoch_s": Decimal(10**6),
    "epoch_ms": Decimal(10**3),
    "epoch_us": Decimal(1),
    "epoch_ns": Decimal("0.001"),
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NAMED_UTC = re.compile(r"\s*(?:UTC|GMT)$")


def to_time(value: Any, form: str | None, zone: str | None, name: str) -> Any:
    """Convert a value to a time in UTC.

    Args:
        value: text, a number or a time.
        form: see `Value.format`; `None` for a number means milliseconds, as in the contract.
        zone: time zone for times without one.
        name: the field's name, for messages.

    Raises:
        ContractError: the value is not a time of this format, or has no zone.
    """
    if form is not None and form in _MICROSECONDS and not isinstance(value, datetime):
        return _from_epoch(value, form, name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - the zone follows
    if isinstance(value, str):
        if form in (None, "iso") and _INTEGER.fullmatch(value):
            return int(value)
        value = _parsed(value.strip(), form, name)
    if not isinstance(value, datetime):
        return value
    try:
        return (value if value.tzinfo else _placed(value, zone, name)).astimezone(UTC)
    except (OverflowError, ValueError) as error:
        msg = f"{name}: {shown(value)} is outside the range of times"
        raise ContractError("time_out_of_range", name, msg) from error


def _placed(value: datetime, zone: str | None, name: str) -> datetime:
    if zone is None:
        msg = f'{name}: {value.isoformat()} has no time zone; add a zone to the mapping, e.g. zone = "UTC"'
        raise ContractError("bad_value", name, msg)
    return value.replace(tzinfo=_zone(zone))


def _parsed(text: str, form: str | None, name: str) -> datetime:
    try:
        if form is None or form == "iso":
            return datetime.fromisoformat(_NAMED_UTC.sub("+00:00", text))
        return datetime.strptime(text, form)  # noqa: DTZ007 - the zone follows
    except ValueError as error:
        wanted = f"time like {form!r}" if form not in (None, "iso") else "ISO 8601 time"
        msg = f"{name}: {shown(text)} is no {wanted}; change format in the mapping"
        raise ContractError("bad_value", name, msg) from error


def _from_epoch(value: Any, form: str, name: str) -> datetime:
    try:
        number = Decimal(str(value).strip()) * _MICROSECONDS[form]
        return time_of(int(number))
    except InvalidOperation as error:
        msg = f"{name}: {shown(value)} is no number of {form}; change format in the mapping"
        raise ContractError("bad_value", name, msg) from error
    except (OverflowError, ValueError) as error:
        msg = f"{name}: {shown(value)} as {form} is outside the range of times; is format right?"
        raise ContractError("time_out_of_range", name, msg) from error


@lru_cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
