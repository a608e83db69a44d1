"""The stream's heartbeat: kept in the online store, so that serving knows how far behind sessions are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from feature_repo.errors import StoreError
from feature_repo.online import OnlineStore

PREFIX = "heartbeat/"


class Counts(Struct, frozen=True):
    """Events of one partition since the stream's process started."""

    read: int = 0
    folded: int = 0
    duplicate: int = 0
    late: int = 0
    quarantined: int = 0
    written: int = 0
    retries: int = 0
    replayed: int = 0


class Heartbeat(Struct, frozen=True):
    """One partition's sign of life.

    Attributes:
        last_event_time: the newest event time met; `None` before the first event.
        wall_time: when it was written.
        behind_s: for how long the partition has not been read to its end (s); 0 when it is caught up.
        sessions, state_bytes: live sessions held, and their size.
    """

    partition: int
    last_event_time: datetime | None
    wall_time: datetime
    behind_s: float = 0.0
    counts: Counts = Counts()
    sessions: int = 0
    state_bytes: int = 0

    def lag_s(self, now: datetime) -> float:
        """By how much session features may be behind: silence of the stream, or its backlog (s)."""
        return max((now - self.wall_time).total_seconds(), 0.0) + self.behind_s

    def event_lag_s(self) -> float | None:
        """Age of the newest event when the heartbeat was written (s)."""
        if self.last_event_time is None:
            return None
        return (self.wall_time - self.last_event_time).total_seconds()


def mark_of(partition: int) -> str:
    """Name of a partition's mark in the online store."""
    return f"{PREFIX}{partition:04d}"


def write_heartbeats(store: OnlineStore, heartbeats: Iterable[Heartbeat]) -> None:
    """Put heartbeats into the online store.

    Raises:
        StoreError: the store is unreachable.
    """
    store.put_marks({mark_of(h.partition): msgspec.json.encode(h) for h in heartbeats})


def read_heartbeats(store: OnlineStore) -> list[Heartbeat]:
    """The heartbeat of each partition, by partition; none before the stream ran.

    Raises:
        StoreError: the store is unreachable, or a heartbeat in it is damaged.
    """
    found = []
    for name, raw in sorted(store.marks(PREFIX).items()):
        try:
            heartbeat = msgspec.json.decode(raw, type=Heartbeat)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            msg = f"online store: mark {name!r} is no heartbeat ({error}); restart the stream to renew it"
            raise StoreError(msg) from error
        found.append(heartbeat)
    return found


def stream_lag_s(heartbeats: Iterable[Heartbeat], now: datetime | None = None) -> float | None:
    """The worst lag of any partition (s); `None` where no heartbeat was ever written."""
    now = now or datetime.now(UTC)
    return max((h.lag_s(now) for h in heartbeats), default=None)
