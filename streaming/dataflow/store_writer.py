"""Writes what the folds changed into the online store; slows the flow while the store is slow or gone."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import msgspec
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online import EncodedRow, OnlineStore
from feature_repo.online.consent_rows import CONSENT
from feature_repo.online.row_encoder import RowEncoder
from streaming.sessions.heartbeat import Heartbeat, write_heartbeats

_log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
KNOWN_KEYS = 1_000_000
"""Keys a writer remembers having written; beyond them it forgets and asks the store again."""
PENDING_ROWS = 64_000
"""Rows that may wait for the store before the flow waits for it, some 50 MB.

Bytewax brings the chunks of all partitions one after the other, then reads again: with fewer the fold rests
while the store takes what it was handed at once, and the store rests while the fold goes on.
"""


@dataclass(frozen=True, slots=True)
class WriteJob:
    """What one chunk changed in one group. Deletions go first, then rows, then marks and the heartbeat.

    Attributes:
        partition: whose metrics count it.
        heartbeat: last, so that it never promises more than there is.
        marks: put once the rows are written.
    """

    partition: int
    group: FeatureGroup
    rows: Sequence[EncodedRow] = ()
    deleted: Sequence[str] = ()
    heartbeat: Heartbeat | None = None
    marks: Mapping[str, bytes] = field(default_factory=dict)


def jobs_by_group(
    partition: int, groups: Sequence[RowEncoder], rows: Sequence[EncodedRow], deleted: Sequence[str]
) -> list[WriteJob]:
    """A job per group of one entity.

    Args:
        rows: each key's row in each group, in the order of the groups.
    """
    count = len(groups)
    return [WriteJob(partition, each.group, rows[n::count], deleted) for n, each in enumerate(groups)]


@dataclass(slots=True)
class _Waiting:
    """Rows of one group to be written together; of one key the last."""

    partition: int
    group: FeatureGroup
    rows: dict[str, EncodedRow] = field(default_factory=dict)


@dataclass
class OnlineWriter:
    """Writes jobs in order; a failing store is tried again with exponential backoff and jitter, for ever.

    While it is tried the caller waits: the flow reads no further, holds its position and drops nothing. The
    first row of a key is checked against the stored event time. After that this writer knows what it wrote,
    and since a key has one writer it need not ask again.

    Args:
        stop: ends the waiting; the write then raises, its epoch is not committed and is read again at
            restart.
        retried: called with the partition at each repeat.
        wrote: called with the partition and how many of its rows are in the store now.
    """

    store: OnlineStore
    stop: threading.Event
    retried: Callable[[int], None] = lambda partition: None
    wrote: Callable[[int, int], None] = lambda partition, rows: None
    written: Counter[int] = field(default_factory=Counter)
    retries: Counter[int] = field(default_factory=Counter)
    _known: dict[str, set[str]] = field(default_factory=dict)

    def write(self, jobs: Sequence[WriteJob]) -> None:
        """Write jobs in order, rows of one group in one pipeline; then the heartbeats.

        Raises:
            StoreError: the store did not come back before `stop` was set.
        """
        waiting: dict[str, _Waiting] = {}
        for job in jobs:
            mine = waiting.setdefault(job.group.view_name, _Waiting(job.partition, job.group))
            if job.deleted:
                self._write_rows(mine)
                self._insist(job.partition, partial(self.store.delete, job.group, job.deleted))
                self._known_of(job.group).difference_update(job.deleted)
            mine.rows.update({row.key: row for row in job.rows})
        for mine in waiting.values():
            self._write_rows(mine)
        for job in jobs:
            if job.rows:
                self.written[job.partition] += len(job.rows)
                self.wrote(job.partition, len(job.rows))
        for job in jobs:
            if job.marks:
                self._insist(job.partition, partial(self.store.put_marks, job.marks))
        beats = [self._counted(job.heartbeat) for job in jobs if job.heartbeat is not None]
        if beats:
            self._insist(beats[0].partition, lambda: write_heartbeats(self.store, beats))

    def _write_rows(self, waiting: _Waiting) -> None:
        known = self._known_of(waiting.group)
        ours = [row for key, row in waiting.rows.items() if key in known]
        new = [row for key, row in waiting.rows.items() if key not in known]
        if new:
            taken = self._insist(
                waiting.partition, partial(self.store.write_encoded, waiting.group, new, check=True)
            )
            if taken == len(new):  # else the store holds newer ones: go on asking
                if len(known) > KNOWN_KEYS:
                    known.clear()
                known.update([row.key for row in new])
        if ours:
            self._insist(
                waiting.partition, partial(self.store.write_encoded, waiting.group, ours, check=False)
            )
        waiting.rows.clear()

    def _known_of(self, group: FeatureGroup) -> set[str]:
        if group is CONSENT:  # the batch side states it too
            return set()
        return self._known.setdefault(group.view_name, set())

    def _counted(self, heartbeat: Heartbeat) -> Heartbeat:
        partition = heartbeat.partition
        counts = msgspec.structs.replace(
            heartbeat.counts, written=self.written[partition], retries=self.retries[partition]
        )
        return msgspec.structs.replace(heartbeat, counts=counts)

    def _insist(self, partition: int, call: Callable[[], T]) -> T:
        def before_sleep(state: RetryCallState) -> None:
            self.retries[partition] += 1
            self.retried(partition)
            if state.attempt_number == 1:
                assert state.outcome is not None
                _log.warning("partition %d waits: %s", partition, state.outcome.exception())

        retrying = Retrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
            stop=stop_when_event_set(self.stop),
            sleep=sleep_using_event(self.stop),
            before_sleep=before_sleep,
            reraise=True,
        )
        return retrying(call)


class BackgroundWriter:
    """An `OnlineWriter` on a thread of its own: the fold goes on while the store answers.

    While `PENDING_ROWS` wait, `write` blocks. Nothing is committed before `flush` returned.
    """

    def __init__(self, writer: OnlineWriter) -> None:
        self._writer = writer
        self._handed: list[WriteJob] = []
        self._pending = 0
        self._busy = self._closed = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="online-writer", daemon=True)
        self._thread.start()

    @property
    def written(self) -> dict[int, int]:
        """Rows written so far, by shard."""
        return dict(self._writer.written)

    def write(self, jobs: Sequence[WriteJob]) -> None:
        """Hand jobs over; raises what an earlier write raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending < PENDING_ROWS or self._failure is not None)
            self._check()
            self._handed += jobs
            self._pending += sum(len(job.rows) for job in jobs)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything handed over is in the store.

        Raises:
            StoreError: a write was given up because the flow is to stop.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._handed and not self._busy)
            self._check()

    def close(self) -> None:
        """End the thread once it has written what it has."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while jobs := self._take():
            try:
                if self._failure is None:
                    self._writer.write(jobs)
            except BaseException as error:
                self._failure = error
            with self._changed:
                self._busy = False
                self._pending -= sum(len(job.rows) for job in jobs)
                self._changed.notify_all()

    def _take(self) -> list[WriteJob]:
        """All that waits, to go in the same pipelines; nothing once the writer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._handed or self._closed)
            jobs, self._handed = self._handed, []
            self._busy = bool(jobs)
            return jobs
