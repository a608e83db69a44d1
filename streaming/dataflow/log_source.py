"""The event log as a Bytewax source: one part per partition, micro-batches by size and by time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from feature_repo.errors import LogError
from streaming.log import Batch, Damage, EventLog, Place, Position, PositionLostError, before
from streaming.sessions.messages import Chunk

_log = logging.getLogger(__name__)

IDLE_POLL_S = 0.003
LONGEST_BACKOFF_S = 5.0
CATCH_UP = 16
"""How many times larger than `batch_size` a chunk may grow while a partition is behind."""


@dataclass(frozen=True, slots=True)
class SourceRules:
    """How a partition is read.

    Attributes:
        batch_size: records at which a chunk is handed on. While more than a chunk waits in the log, the next
            is twice as large, up to `CATCH_UP` times this: events of one session then share a row. It delays
            none by more than they are behind already.
        batch_s: age of a chunk's first record at which it is handed on (s). After a quiet moment the first
            record goes at once: waiting pays only where more is coming.
        tick_s: how often a chunk bids the shard to write its heartbeat (s).
        to_end: stop at the end of the log instead of waiting for more.
    """

    batch_size: int
    batch_s: float
    tick_s: float
    to_end: bool = False


class LogPart(StatefulSourcePartition[Chunk, Position]):  # type: ignore[misc]
    """One partition of the log. Times are of a monotonic clock: a wall clock set back stops nothing."""

    def __init__(
        self,
        log: EventLog,
        partition: int,
        position: Position,
        *,
        known: Position = "",
        rules: SourceRules,
        stop: threading.Event,
        monotonic: Callable[[], float],
    ) -> None:
        self._log = log
        self._partition = partition
        self._emitted = self._position = position
        self._known = known
        self._replayed = self._replayed_since = 0
        self._rules = rules
        self._stop = stop
        self._now = monotonic
        now = monotonic()
        self._records: list[bytes] = []
        self._places: list[Place] = []
        self._damaged: list[Damage] = []
        self._last_chunk = self._next_tick = self._next_poll = now - rules.batch_s
        self._caught_up = self._last_record = now
        self._failures = 0
        self._size = rules.batch_size
        self._met_end = not position.strip("0-")  # nothing had ever been written
        self._done = False

    def next_batch(self) -> list[Chunk]:
        """At most one chunk. Ends once `stop` is set, or at the end of the log where it should."""
        if self._done:
            raise StopIteration
        now = self._now()
        at_end = self._poll(now)
        if self._stop.is_set() or (at_end and self._rules.to_end):
            self._done = True
            return [self._chunk(now, tick=True)]
        full = len(self._records) >= self._size
        due = (self._records or self._damaged) and (full or now - self._last_chunk >= self._rules.batch_s)
        tick = now >= self._next_tick
        return [self._chunk(now, tick)] if due or tick else []

    def snapshot(self) -> Position:
        """The position after the last record handed on."""
        return self._emitted

    def _poll(self, now: float) -> bool:
        """Read what there is; whether the end of the log was met."""
        limit = self._size - len(self._records)
        if limit <= 0 or now < self._next_poll:
            return False
        try:
            if now >= self._next_tick:
                self._look_for_trimmed()
            batch = self._read(limit)
        except LogError as error:
            self._failures += 1
            wait = min(0.1 * 2**self._failures, LONGEST_BACKOFF_S)
            _log.warning("partition %d: %s; reading again in %.1f s", self._partition, error, wait)
            self._next_poll = now + wait
            return False
        self._failures = 0
        if self._known:
            self._count_replayed(batch)
        self._position = batch.position
        self._records += batch.records
        self._places += batch.places
        self._damaged += batch.damaged
        self._met_end = len(batch.records) < limit
        if self._met_end:
            self._caught_up = now
            self._size = self._rules.batch_size
            self._next_poll = now + IDLE_POLL_S
        if batch.records:
            self._last_record = now
        return not batch.records

    def _read(self, limit: int) -> Batch:
        try:
            return self._log.read(self._partition, self._position, limit)
        except PositionLostError as error:
            _log.warning("%s; repeats are known by their ids, so it is read from the start", error)
            return self._log.read(self._partition, self._log.start(self._partition), limit)

    def _count_replayed(self, batch: Batch) -> None:
        """Count what the shard's state holds already, until reading has come to where that has."""
        again = before(self._known, batch.places)
        self._replayed += again
        self._replayed_since += again
        if batch.position >= self._known or not batch.records:
            if self._replayed:
                _log.info(
                    "partition %d: %d records read again that its state holds; repeats count once",
                    self._partition,
                    self._replayed,
                )
            self._known = ""

    def _look_for_trimmed(self) -> None:
        """Say so when retention overtook this reader: what was removed is in the lake, not in sessions.

        If the reader had reached the end, nothing is lost; a log that was created again begins further on.
        """
        oldest = self._log.start(self._partition)
        if self._position < oldest:
            if not self._met_end:
                _log.warning(
                    "partition %d: the log begins at %s, but the stream has read to %s only; either it was "
                    "replaced, or retention removed unread records: then raise HEADRACE_LOG_RETENTION_HOURS",
                    self._partition,
                    oldest,
                    self._position,
                )
            self._position = oldest

    def _chunk(self, now: float, tick: bool) -> Chunk:
        chunk = Chunk(
            partition=self._partition,
            records=self._records,
            position=self._position,
            damaged=tuple(self._damaged),
            tick=tick,
            behind_s=now - self._caught_up,
            idle_us=int((now - self._last_record) * 1e6),
            places=self._places,
            replayed=self._replayed_since,
        )
        if len(self._records) >= self._size and not self._met_end:
            self._size = min(2 * self._size, CATCH_UP * self._rules.batch_size)
        self._records, self._places, self._damaged = [], [], []
        self._replayed_since = 0
        self._emitted = self._position
        self._last_chunk = now
        if tick:
            self._next_tick = now + self._rules.tick_s
        return chunk


@dataclass(frozen=True)
class EventLogSource(FixedPartitionedSource[Chunk, Position]):  # type: ignore[misc]
    """Every partition of the event log, each from where its snapshot says, else from its oldest record.

    Attributes:
        state_position: up to where the state of a partition has come, `""` where the state is gone. Reading
            resumes there if that is before the snapshot's position.
        resume_position: from where on a partition has to be read although its state is whole, since the
            online store may lack what was folded last; a snapshot's position before it is not believed.
            `None` where it is not known.
        from_state: whether that position holds where there is no snapshot: the recovery files were damaged.
    """

    log: EventLog
    rules: SourceRules
    stop: threading.Event
    monotonic: Callable[[], float]
    state_position: Callable[[int], Position | None] = lambda partition: None
    resume_position: Callable[[int], Position | None] = lambda partition: None
    from_state: Callable[[], bool] = lambda: False

    def list_parts(self) -> list[str]:
        """Names of the partitions; they sort by number."""
        return [part_name(n) for n in range(self.log.partitions)]

    def build_part(self, step_id: str, for_part: str, resume_state: Position | None) -> LogPart:
        """The reader of one partition."""
        partition = int(for_part)
        state = self.state_position(partition)
        position = self._resumed(partition, resume_state, state)
        return LogPart(
            self.log,
            partition,
            position,
            known=state or "",
            rules=self.rules,
            stop=self.stop,
            monotonic=self.monotonic,
        )

    def _resumed(self, partition: int, snapshot: Position | None, state: Position | None) -> Position:
        if state == "":
            return self.log.start(partition)
        floor = self.resume_position(partition)
        if snapshot is None:
            return (self.from_state() and floor) or self.log.start(partition)
        position = snapshot if state is None else min(snapshot, state)
        return position if floor is None else max(position, min(floor, state or floor))


def part_name(partition: int) -> str:
    """Key of a partition in the flow."""
    return f"{partition:04d}"
