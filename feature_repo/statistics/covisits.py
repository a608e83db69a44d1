"""Items that are engaged with in the same sessions."""

from __future__ import annotations

from collections import defaultdict

from feature_repo.group import SESSION_ITEMS


class Covisits:
    """Counts of sessions that touched both items of a pair. Times are epoch microseconds, non-decreasing."""

    def __init__(self, gap_us: int, top_k: int) -> None:
        self._gap = gap_us
        self._top_k = top_k
        self._last_event: dict[str, int] = {}
        self._touched: dict[str, dict[str, int]] = {}
        self._pairs: dict[str, dict[str, int]] = defaultdict(dict)
        self._sessions: dict[str, int] = defaultdict(int)
        self._top: dict[str, dict[str, int]] = {}

    def see(self, session_id: str, time: int, item_id: str | None) -> None:
        """Process an event of a session; `item_id` if it is an engagement."""
        if time - self._last_event.get(session_id, time) > self._gap:
            self._touched.pop(session_id, None)
        self._last_event[session_id] = time
        if item_id is None:
            return
        touched = self._touched.setdefault(session_id, {})
        if item_id not in touched:
            self._count(item_id, touched, 1)
        touched[item_id] = time
        if len(touched) > SESSION_ITEMS:
            oldest = min(touched, key=lambda item: (touched[item], item))
            del touched[oldest]
            self._count(oldest, touched, -1)

    def _count(self, item: str, others: dict[str, int], step: int) -> None:
        self._sessions[item] += step
        mine = self._pairs[item]
        self._top.pop(item, None)
        for other in others:
            theirs = self._pairs[other]
            count = mine.get(other, 0) + step
            if count:
                mine[other] = theirs[item] = count
            else:
                del mine[other], theirs[item]
            self._top.pop(other, None)

    def sessions(self, item_id: str) -> int:
        """Return the number of sessions that touched an item."""
        return self._sessions.get(item_id, 0)

    def neighbours(self, item_id: str) -> dict[str, int]:
        """Return the item's strongest neighbours with their common sessions, strongest first."""
        top = self._top.get(item_id)
        if top is None:
            pairs = self._pairs.get(item_id, {})
            strongest = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
            top = self._top[item_id] = dict(strongest[: self._top_k])
        return top
