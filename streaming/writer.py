"""Writes what the folds changed into the online store; slows the flow while the store is slow or gone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
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
from feature_repo.online import OnlineRow, OnlineStore
from streaming.heartbeat import Heartbeat, write_heartbeats

_log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class WriteJob:
    """What one chunk changed in one group.

    Attributes:
        partition: whose metrics count it.
        heartbeat: written after the rows, so that it never promises more than there is.
    """

    partition: int
    group: FeatureGroup
    rows: Sequence[OnlineRow] = ()
    deleted: Sequence[str] = ()
    heartbeat: Heartbeat | None = None


@dataclass
class OnlineWriter:
    """Writes jobs in order; a failing store is tried again with exponential backoff and jitter, for ever.

    While it is tried the caller waits: the flow reads no further, holds its position and drops nothing.

    Args:
        stop: ends the waiting; the write then raises, its epoch is not committed and is read again at
            restart.
        retried: called with the partition at each repeat.
    """

    store: OnlineStore
    stop: threading.Event
    retried: Callable[[int], None] = lambda partition: None
    written: dict[int, int] = field(default_factory=dict)

    def write(self, jobs: Sequence[WriteJob]) -> None:
        """Write jobs in order, the rows of each in one pipeline; then the heartbeats.

        Raises:
            StoreError: the store did not come back before `stop` was set.
        """
        for job in jobs:
            if job.rows:
                taken = self._insist(job.partition, partial(self.store.write, job.group, job.rows))
                self.written[job.partition] = self.written.get(job.partition, 0) + taken
            if job.deleted:
                self._insist(job.partition, partial(self.store.delete, job.group, job.deleted))
        beats = [self._counted(job.heartbeat) for job in jobs if job.heartbeat is not None]
        if beats:
            self._insist(beats[0].partition, lambda: write_heartbeats(self.store, beats))

    def _counted(self, heartbeat: Heartbeat) -> Heartbeat:
        counts = msgspec.structs.replace(heartbeat.counts, written=self.written.get(heartbeat.partition, 0))
        return msgspec.structs.replace(heartbeat, counts=counts)

    def _insist(self, partition: int, call: Callable[[], T]) -> T:
        def before_sleep(state: RetryCallState) -> None:
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
