"""What every event log promises: ordered partitions of raw records, and positions to come back to."""

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
"""Opaque token of a place in a partition; tokens of one partition compare in log order."""

Keyed: TypeAlias = tuple[str, bytes]
"""A partition key and the canonical bytes of a record (`feature_repo.contract.validation.encode`)."""


Place: TypeAlias = int | bytes
"""Where a log itself says that a record is: an offset (segments, Kafka) or the id of an entry (Redis)."""


class PositionLostError(LogError):
    """A position lies beyond the end of the log: the log was replaced, or cut from outside.

    Waiting there would miss what comes. A reader that can tell repeats starts again from `EventLog.start`.
    """

    def __init__(self, where: str, position: Position, end: Position) -> None:
        super().__init__(
            f"event log {where}: position {position} lies beyond its end {end}; the log was replaced or cut: "
            "let the reader forget its position, so that it reads from the start"
        )


class PartlyWrittenError(LogError):
    """A batch was not acknowledged, but some of it is in the log, or may be.

    Attributes:
        written: how many records are in the log; `None` where the log cannot tell.
        total: how many there were.
    """

    def __init__(self, why: object, written: int | None, total: int) -> None:
        super().__init__(f"{why} ({'some' if written is None else written} of {total} records were written)")
        self.written = written
        self.total = total


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of the log that no longer hold a record: reported once, skipped, never silently dropped.

    Attributes:
        source: where they are (the segment file, the topic, the stream and its entry).
        offset: where they begin in it (bytes of a segment, Kafka's offset); `None` where `source` says all.
        raw: the bytes themselves.
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
        position: the place after the last record, to read on from.
        damaged: stretches skipped on the way.
        places: of each record.
    """

    records: list[bytes]
    position: Position
    damaged: tuple[Damage, ...] = ()
    places: Sequence[Place] = field(default=(), compare=False)


class EventLog(Protocol):
    """An append-only, partitioned log. Publishing is at-least-once; readers keep their own positions."""

    @property
    def partitions(self) -> int:
        """How many partitions; fixed for the life of a log."""
        ...

    def publish(self, records: Sequence[Keyed]) -> None:
        """Append a batch; returns once it is as durable as the log's policy says.

        Records of one key land in one partition, in the order given. After an error some of the batch may
        have been written: publishing it again is safe, since readers drop repeated event ids.

        Raises:
            LogError: nothing of the batch is acknowledged, nothing was written.
            PartlyWrittenError: nothing is acknowledged, but some was written, or may have been.
        """
        ...

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        """At most `limit` records after a position; empty at the end; never waits for new ones.

        Raises:
            PositionLostError: the position lies beyond the end (segments and Kafka; Redis cannot tell).
            LogError: the log cannot be read.
        """
        ...

    def start(self, partition: int) -> Position:
        """The position of the oldest record kept."""
        ...

    def end(self, partition: int) -> Position:
        """The position after the newest record."""
        ...

    def trim(self, older_than: timedelta) -> int:
        """Remove what was written longer ago than this; how many segments or entries went."""
        ...

    def close(self) -> None:
        """Force what is pending to its place and let go of files and connections."""
        ...


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: the same in every process and on every machine."""
    return xxhash.xxh64_intdigest(key.encode()) % partitions


def key_of(record: Record) -> str:
    """What keeps records in order among themselves: the session of an event, the id of an item or user."""
    if isinstance(record, Event):
        return record.session_id
    return record.item_id if isinstance(record, Item) else record.user_id


def where(partition: int, place: Place | None, log: str = "event log") -> tuple[str, int | None]:
    """Source and line under which the quarantine keeps a record: the same for all who read it."""
    source = f"{log}, partition {partition}"
    return (f"{source}, entry {place.decode()}", None) if isinstance(place, bytes) else (source, place)


def before(position: Position, places: Sequence[Place]) -> int:
    """How many of these records, which are in log order, were read already by whoever came to a position."""
    if not places:
        return 0
    if isinstance(places[0], bytes):
        known = tuple(map(int, position.split("-")))
        return bisect_right(places, known, key=_entry)
    return bisect_left(places, int(position))


def _entry(place: Place) -> tuple[int, ...]:
    assert isinstance(place, bytes)
    return tuple(map(int, place.split(b"-")))
