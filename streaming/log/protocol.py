"""The protocol of every event log: ordered partitions of raw records, and positions to resume from."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeAlias

import xxhash

from feature_repo.contract.validation import Event, Item, Record
from feature_repo.errors import LogError

Position: TypeAlias = str
"""Opaque position in a partition; positions of one partition sort in log order."""

Keyed: TypeAlias = tuple[str, bytes]
"""A partition key and the canonical bytes of a record (`feature_repo.contract.validation.encode`)."""


Place: TypeAlias = int | bytes
"""The log's own location of a record: an offset (segments, Kafka) or an entry id (Redis)."""


class PositionLostError(LogError):
    """A position is beyond the end of the log: the log was replaced, or truncated from outside.

    Waiting there would miss new records. A reader that deduplicates starts again from `EventLog.start`.
    """

    def __init__(self, where: str, position: Position, end: Position) -> None:
        super().__init__(
            f"event log {where}: position {position} is beyond its end {end}; the log was replaced or cut: "
            "let the reader forget its position, so that it reads from the start"
        )


class PartlyWrittenError(LogError):
    """A batch was not acknowledged, but some of it is, or may be, in the log.

    Attributes:
        written: number of records in the log; `None` if unknown.
        total: number of records in the batch.
    """

    def __init__(self, why: object, written: int | None, total: int) -> None:
        super().__init__(f"{why} ({'some' if written is None else written} of {total} records were written)")
        self.written = written
        self.total = total


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of the log that no longer form a record: reported once and skipped, never silently dropped.

    Attributes:
        source: where they are (the segment file, the topic, the stream and its entry).
        offset: where they start in it (bytes of a segment, Kafka's offset); `None` if `source` is complete.
        raw: the damaged bytes.
        reason: what is wrong with them.
    """

    source: str
    offset: int | None
    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Records read from one partition.

    Attributes:
        records: raw bytes in log order; empty at the end of the log.
        position: the position after the last record, to resume from.
        damaged: damaged stretches that were skipped.
        places: the location of each record.
    """

    records: list[bytes]
    position: Position
    damaged: tuple[Damage, ...] = ()
    places: Sequence[Place] = field(default=(), compare=False)


class EventLog(Protocol):
    """An append-only, partitioned log. Publishing is at-least-once; readers keep their own positions."""

    @property
    def partitions(self) -> int:
        """Number of partitions; fixed for the life of a log."""
        ...

    def publish(self, records: Sequence[Keyed]) -> None:
        """Append a batch; return once it is as durable as the log's policy requires.

        Records with the same key go to the same partition, in the given order. After an error, some of the
        batch may have been written. Publishing it again is safe, since readers drop repeated event ids.

        Raises:
            LogError: no record was acknowledged or written.
            PartlyWrittenError: no record was acknowledged, but some were, or may have been, written.
        """
        ...

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        """Read at most `limit` records after a position; empty at the end; never wait for new ones.

        Raises:
            PositionLostError: the position is beyond the end (segments and Kafka; Redis cannot tell).
            LogError: the log cannot be read.
        """
        ...

    def start(self, partition: int) -> Position:
        """Return the position of the oldest record."""
        ...

    def end(self, partition: int) -> Position:
        """Return the position after the newest record."""
        ...

    def trim(self, older_than: timedelta) -> int:
        """Remove records written longer ago than this; return the number of segments or entries removed."""
        ...

    def close(self) -> None:
        """Flush pending data and close files and connections."""
        ...


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key: the same in every process and on every machine."""
    return xxhash.xxh64_intdigest(key.encode()) % partitions


def key_of(record: Record) -> str:
    """Return the key within which records stay ordered: an event's session, an item's or user's id."""
    if isinstance(record, Event):
        return record.session_id
    return record.item_id if isinstance(record, Item) else record.user_id


def where(partition: int, place: Place | None, log: str = "event log") -> tuple[str, int | None]:
    """Return source and line for a record in the quarantine: the same for every reader."""
    source = f"{log}, partition {partition}"
    return (f"{source}, entry {place.decode()}", None) if isinstance(place, bytes) else (source, place)


def before(position: Position, places: Sequence[Place]) -> int:
    """Count the records, given in log order, that a reader at this position has already read."""
    if not places:
        return 0
    if isinstance(places[0], bytes):
        known = tuple(map(int, position.split("-")))
        return bisect_right(places, known, key=_entry)
    return bisect_left(places, int(position))


def _entry(place: Place) -> tuple[int, ...]:
    assert isinstance(place, bytes)
    return tuple(map(int, place.split(b"-")))
