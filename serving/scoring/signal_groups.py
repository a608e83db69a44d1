"""Groups of signals: names only, so that flags can be checked without what computes them."""

from __future__ import annotations

BASE, ITEM, LONG_TERM, SEGMENT, SESSION = "base", "item", "long_term", "segment", "session"
GROUPS = (BASE, ITEM, LONG_TERM, SEGMENT, SESSION)
