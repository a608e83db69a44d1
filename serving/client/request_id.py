"""Request ids. Generated ids begin with a timestamp, so that a decision record can be found by its id."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from time import time_ns

_random = random.Random()
"""Seeded once: asking the system for each id would take a twentieth of a ranking."""
_SHAPE = re.compile(r"[0-9a-f]{24}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def new_request_id() -> str:
    """Make an id of 24 hexadecimal digits: milliseconds since 1970 by the wall clock, then 48 random bits."""
    return f"{time_ns() // 1_000_000:012x}{_random.getrandbits(48):012x}"


def made_at(request_id: str) -> datetime | None:
    """Return the time at which `new_request_id` made an id, or `None` if it did not."""
    if _SHAPE.fullmatch(request_id) is None:
        return None
    milliseconds = int(request_id[:12], 16)
    if not 0 <= milliseconds < (_LAST - _EPOCH) / timedelta(milliseconds=1):
        return None
    made = _EPOCH + timedelta(milliseconds=milliseconds)
    return made if made >= _FIRST else None
