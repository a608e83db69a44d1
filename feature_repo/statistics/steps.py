"""What is engaged with next in a session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Walk:
    """The last engagements of a session's run: those at the newest moment, and the one before it."""

    seen: int
    moment: int = 0
    here: set[str] = field(default_factory=set)
    before: str | None = None


class Steps:
    """Counts of engagements that followed one with another item. Times in epoch microseconds, ascending."""

    def __init__(self, gap_us: int, top_k: int) -> None:
        self._gap = gap_us
        self._top_k = top_k
        self._walks: dict[str, _Walk] = {}
        self._counts: dict[str, dict[str, int]] = defaultdict(dict)
        self._totals: dict[str, int] = defaultdict(int)
        self._top: dict[str, dict[str, int]] = {}

    def see(self, session_id: str, time: int, item_id: str | None) -> None:
        """Process an event of a session; `item_id` if it is an engagement."""
        walk = self._walks.get(session_id)
        if walk is None or time - walk.seen > self._gap:
            walk = self._walks[session_id] = _Walk(time)
        walk.seen = time
        if item_id is None or (time == walk.moment and item_id in walk.here):
            return
        if time != walk.moment:
            walk.before = max(walk.here, default=None)
            walk.moment, walk.here = time, set()
        walk.here.add(item_id)
        if walk.before is not None and walk.before != item_id:
            counts = self._counts[walk.before]
            counts[item_id] = counts.get(item_id, 0) + 1
            self._totals[walk.before] += 1
            self._top.pop(walk.before, None)

    def following(self, item_id: str) -> tuple[Mapping[str, int], int]:
        """Return what most often follows an item, most frequent first, and how often anything did."""
        top = self._top.get(item_id)
        if top is None:
            most = sorted(self._counts.get(item_id, {}).items(), key=lambda pair: (-pair[1], pair[0]))
            top = self._top[item_id] = dict(most[: self._top_k])
        return top, self._totals.get(item_id, 0)
