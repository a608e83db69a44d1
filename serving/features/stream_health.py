"""Whether the stream keeps session features fresh enough to be believed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from feature_repo.errors import StoreError
from streaming.sessions.heartbeat import Heartbeat, stream_lag_s

log = logging.getLogger(__name__)

RECOVERED = 0.5
"""Share of the limit below which a lagging stream counts as caught up: between the two nothing flips."""


class StreamHealth:
    """Watches the heartbeats of the stream.

    Without any heartbeat there is no stream to lag behind, and no session rows either: that is not stale.
    While the store cannot be read the last heartbeats age on, so a dead stream is noticed all the same.

    Args:
        read: the heartbeats of all partitions; may raise `StoreError`.
        clock: wall time, as heartbeats are written with.
        limit_s: lag above which session features are off.
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
        """Read the heartbeats and judge."""
        try:
            self._heartbeats = self._read()
        except StoreError as error:
            log.warning("heartbeats cannot be read, the last known ones age on: %s", error)
        lag_s = stream_lag_s(self._heartbeats, self._clock())
        # Judged before it is shown: whoever reads a lag reads what it means.
        self.stale = lag_s is not None and lag_s > self._limit_s * (RECOVERED if self.stale else 1.0)
        self.lag_s = lag_s
