"""Copies of what was read last, bounded in number and age: what serves when the store does not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from serving.pipeline.context import Row


class Copies:
    """The rows read last, by key; the least recently written go first.

    Args:
        size: rows kept.
        max_age_s: age, since it was read, beyond which a copy is no longer given out.
        clock: monotonic seconds.
    """

    def __init__(self, size: int, max_age_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._size = size
        self._max_age_s = max_age_s
        self._clock = clock
        self._rows: OrderedDict[str, tuple[float, Row]] = OrderedDict()

    def put(self, key: str, row: Row) -> None:
        """Keep a row that was read just now."""
        self._rows[key] = (self._clock(), row)
        self._rows.move_to_end(key)
        if len(self._rows) > self._size:
            self._rows.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forget a row: the store no longer has it."""
        self._rows.pop(key, None)

    def age(self, key: str) -> float | None:
        """Seconds since a row was read; `None` where there is no copy."""
        held = self._rows.get(key)
        return None if held is None else self._clock() - held[0]

    def get(self, key: str) -> Row | None:
        """The copy, unless it is too old."""
        held = self._rows.get(key)
        if held is None or self._clock() - held[0] > self._max_age_s:
            return None
        return held[1]
