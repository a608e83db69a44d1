"""Clocks are handed in; these are the two that composition roots hand out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns the current time, UTC-aware."""


def wall_clock() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


def shifted_clock(offset: timedelta) -> Clock:
    """The machine's clock plus ``offset``: replays and demos serve historical data as if it were now."""
    return lambda: datetime.now(UTC) + offset
