"""Names of the signal groups, so that flags can be validated without importing the signals."""

from __future__ import annotations

BASE, ITEM, LONG_TERM, SEGMENT, SESSION = "base", "item", "long_term", "segment", "session"
GROUPS = (BASE, ITEM, LONG_TERM, SEGMENT, SESSION)
