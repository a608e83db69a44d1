"""The event log behind one protocol; `open_log` picks the implementation the settings name."""

from __future__ import annotations

from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.log.base import Batch, Damage, EventLog, Keyed, Position, key_of, partition_of

__all__ = [
    "Batch",
    "Damage",
    "EventLog",
    "Keyed",
    "Position",
    "key_of",
    "open_log",
    "partition_of",
]


def open_log(settings: Settings, home: Home, topic: str = "events") -> EventLog:
    """The event log of the settings.

    Raises:
        LogError: it cannot be opened; says why.
    """
    if settings.event_log == "segments":
        from streaming.log.segments import SegmentLog  # noqa: PLC0415

        return SegmentLog(
            home.log / topic,
            partitions=settings.log_partitions,
            fsync=settings.log_fsync,
            segment_bytes=settings.log_segment_mb << 20,
        )
    from feature_repo.errors import LogError  # noqa: PLC0415

    msg = f"HEADRACE_EVENT_LOG={settings.event_log}: not available in this version"
    raise LogError(msg)
