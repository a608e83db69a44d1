"""Clocks, which composition roots hand out, and times as microseconds since 1970."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
Clock = Callable[[], datetime]
"""Returns the current time, UTC-aware."""


def wall_clock() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


def shifted_clock(offset: timedelta) -> Clock:
    """The machine's clock plus ``offset``: replays and demos serve historical data as if it were now."""
    return lambda: datetime.now(UTC) + offset


def micros_of(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - EPOCH) // _MICROSECOND


def time_of(micros: int) -> datetime:
    """The UTC time of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
