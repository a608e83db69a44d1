"""The event log behind one protocol; `open_log` chooses the implementation from the settings."""

from __future__ import annotations

from datetime import timedelta

from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.log.protocol import (
    Batch,
    Damage,
    EventLog,
    Keyed,
    PartlyWrittenError,
    Place,
    Position,
    PositionLostError,
    before,
    key_of,
    partition_of,
    where,
)

__all__ = [
    "Batch",
    "Damage",
    "EventLog",
    "Keyed",
    "PartlyWrittenError",
    "Place",
    "Position",
    "PositionLostError",
    "before",
    "key_of",
    "open_log",
    "partition_of",
    "retention_of",
    "where",
]


def open_log(settings: Settings, home: Home, topic: str = "events") -> EventLog:
    """Open the event log of the settings.

    Raises:
        LogError: it cannot be opened; the message has the cause.
    """
    if settings.event_log == "segments":
        from streaming.log.segment_log import SegmentLog  # noqa: PLC0415

        return SegmentLog(
            home.log / topic,
            partitions=settings.log_partitions,
            fsync=settings.log_fsync,
            segment_bytes=settings.log_segment_mb << 20,
        )
    if settings.event_log == "redis":
        from streaming.log.redis_streams import RedisLog  # noqa: PLC0415

        return RedisLog(settings.redis_url.get_secret_value(), topic, settings.log_partitions)
    from streaming.log.kafka import KafkaLog  # noqa: PLC0415

    name = settings.kafka_topic if topic == "events" else f"{settings.kafka_topic}-{topic}"
    return KafkaLog(settings.kafka_bootstrap, name, settings.log_partitions, retention_of(settings, topic))


def retention_of(settings: Settings, topic: str) -> timedelta:
    """Return how long a topic's records are kept."""
    events = topic == "events"
    return timedelta(hours=settings.log_retention_hours if events else settings.decision_retention_hours)
