"""Whether the stream keeps session features fresh enough to be used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from feature_repo.errors import StoreError
from streaming.sessions.heartbeat import Heartbeat, stream_lag_s

log = logging.getLogger(__name__)

RECOVERED = 0.5
"""Share of the limit below which a lagging stream counts as caught up; the gap prevents flapping."""


class StreamHealth:
    """Watches the heartbeats of the stream.

    Without any heartbeat there is no stream and there are no session rows, which does not count as stale.
    While the store cannot be read, the last heartbeats keep aging, so a dead stream is still detected.

    Args:
        read: returns the heartbeats of all partitions; may raise `StoreError`.
        clock: wall clock, as used by the heartbeats.
        limit_s: lag above which session features are not used.
    """

    def __init__(
        self, read: Callable[[], list[Heartbeat]], clock: Callable[[], datetime], limit_s: float
    ) -> None:
        self._read = read
        self._clock = clock
        self._limit_s = limit_s
        self._heartbeats: list[Heartbeat] = []
        self.lag_s: float | None = None
        self.stale = False

    def refresh(self) -> None:
        """Read the heartbeats and update `stale` and `lag_s`."""
        try:
            self._heartbeats = self._read()
        except StoreError as error:
            log.warning("cannot read the heartbeats, using the last known ones: %s", error)
        lag_s = stream_lag_s(self._heartbeats, self._clock())
        # Set `stale` first, so that a reader of the lag never sees an outdated verdict.
        self.stale = lag_s is not None and lag_s > self._limit_s * (RECOVERED if self.stale else 1.0)
        self.lag_s = lag_s
