"""Cache of the rows read last, limited in number and age: the fallback while the store does not answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from serving.pipeline.context import Row


class Copies:
    """The rows read last, by key. The least recently written ones are evicted first.

    Args:
        size: maximum number of rows.
        max_age_s: maximum time since a row was read.
        clock: monotonic seconds.
    """

    def __init__(self, size: int, max_age_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._size = size
        self._max_age_s = max_age_s
        self._clock = clock
        self._rows: OrderedDict[str, tuple[float, Row]] = OrderedDict()

    def put(self, key: str, row: Row) -> None:
        """Cache a row that was just read."""
        self._rows[key] = (self._clock(), row)
        self._rows.move_to_end(key)
        if len(self._rows) > self._size:
            self._rows.popitem(last=False)

    def drop(self, key: str) -> None:
        """Remove a row that the store no longer has."""
        self._rows.pop(key, None)

    def age(self, key: str) -> float | None:
        """Return the seconds since a row was read, or `None` if it is not cached."""
        held = self._rows.get(key)
        return None if held is None else self._clock() - held[0]

    def get(self, key: str) -> Row | None:
        """Return the cached row, unless it is too old."""
        held = self._rows.get(key)
        if held is None or self._clock() - held[0] > self._max_age_s:
            return None
        return held[1]
