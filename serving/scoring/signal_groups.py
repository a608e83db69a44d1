"""Groups of signals: names only, so that flags can be checked without what computes them."""

from __future__ import annotations

BASE, ITEM, LONG_TERM, SEGMENT, SESSION = "base", "item", "long_term", "segment", "session"
GROUPS = (BASE, ITEM, LONG_TERM, SEGMENT, SESSION)
GROUP_OF = {
    "base": BASE,
    "position": BASE,
    "log_ctr": ITEM,
    "log_clicks": ITEM,
    "popularity": ITEM,
    "numeric": ITEM,
    "log_odds": LONG_TERM,
    "distance": LONG_TERM,
    "segment_log_odds": SEGMENT,
    "session_affinity": SESSION,
    "covisit": SESSION,
    "touched": SESSION,
    "touched_recently": SESSION,
}
"""Group of each family; a signal's family is its name up to the first colon."""


def group_of(name: str) -> str:
    """Group of a signal."""
    return GROUP_OF[name.partition(":")[0]]
