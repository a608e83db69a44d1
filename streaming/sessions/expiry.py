"""Finds what has expired in a shard, a share at each tick, so that a million sessions stall nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from streaming.sessions.session_fold import last_of

TICKS = 60
"""Ticks in which all of a large state is looked at once."""
AT_LEAST, AT_MOST = 2_000, 20_000
"""Entries looked at per tick."""


class Sweep:
    """Walks round and round through held state.

    Args:
        held: state by key; may change between calls.
    """

    def __init__(self, held: Mapping[str, bytes]) -> None:
        self._held = held
        self._keys: Iterator[str] = iter(())

    def expired(self, horizon_us: int) -> list[str]:
        """Keys of this tick's share whose newest event lies before the horizon (µs)."""
        share = min(max(len(self._held) // TICKS, AT_LEAST), AT_MOST)
        keys = list(islice(self._keys, share))
        if not keys:
            self._keys = iter(list(self._held))
            keys = list(islice(self._keys, share))
        return [key for key in keys if (raw := self._held.get(key)) and last_of(raw) < horizon_us]
