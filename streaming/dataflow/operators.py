"""What the flow is built from, and its shards in Bytewax's hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from bytewax.operators import StatefulBatchLogic

from feature_repo.errors import HeadraceError
from streaming.dataflow.flow_metrics import StreamMetrics
from streaming.dataflow.log_source import SourceRules, part_name
from streaming.dataflow.recovery_files import FOLDER as RECOVERY
from streaming.dataflow.recovery_files import FROM_STATE
from streaming.dataflow.store_sink import JobSink
from streaming.dataflow.store_writer import WriteJob, jobs_by_group
from streaming.log import EventLog, Position
from streaming.sessions.intake import POSITION, RESUME, recall
from streaming.sessions.messages import Changes, Chunk
from streaming.sessions.session_shard import SessionShard
from streaming.sessions.shard_context import ShardTools
from streaming.sessions.state_files import StateFolder
from streaming.sessions.user_shard import UserNews, UserShard

T = TypeVar("T")


def _kept(method: Callable[..., T]) -> Callable[..., T]:
    """Decorator: keep a `HeadraceError` that the method raises in `failures` of its object."""

    @wraps(method)
    def keeping(self: Any, *args: Any) -> T:
        try:
            return method(self, *args)
        except HeadraceError as error:
            self.failures.append(error)
            raise

    return keeping


@dataclass(frozen=True)
class FlowParts:
    """What the flow is built from; handed in whole by tests and benchmarks.

    Attributes:
        state: folder of the shards' files.
        sink: takes the jobs of one shard: a `BackgroundWriter`, or a backfill's collector.
        failures: errors of ours that ended the flow; of several workers Bytewax forgets the cause.
        resumes: from where on each partition has to be read.
        begun: set once a shard has something to do, so that Bytewax had resumed.
    """

    log: EventLog
    source: SourceRules
    tools: ShardTools
    state: Path
    sink: JobSink
    metrics: StreamMetrics
    stop: threading.Event = field(default_factory=threading.Event)
    monotonic: Callable[[], float] = time.monotonic
    failures: list[HeadraceError] = field(default_factory=list)
    resumes: dict[int, Position] = field(default_factory=dict)
    begun: threading.Event = field(default_factory=threading.Event)

    def session_file(self, partition: int) -> StateFolder:
        """The file of a partition's sessions."""
        return StateFolder(self.state / f"sessions-{part_name(partition)}")

    @_kept
    def state_position(self, partition: int) -> Position | None:
        """Up to where in the log the state of a partition has come; `""` where the state is gone."""
        file = self.session_file(partition)
        try:
            facts = file.facts()
        finally:
            file.close()
        recall(facts, self.tools)  # sessions of any shard may need it, and shards begin one after another
        self.resumes[partition] = facts.get(RESUME, b"").decode()
        return facts.get(POSITION, b"").decode()

    def resume_position(self, partition: int) -> Position | None:
        """From where on a partition has to be read, as `state_position` found it."""
        return self.resumes.get(partition) or None

    def from_state(self) -> bool:
        """Whether Bytewax's recovery files took the place of damaged ones."""
        return (self.state.parent / RECOVERY / FROM_STATE).exists()


class SessionLogic(StatefulBatchLogic[Chunk, Changes, int]):  # type: ignore[misc]
    """A `SessionShard` in Bytewax's hands; its first chunk tells its partition.

    Bytewax's snapshot tells it as well, but has no checksum: two shards on one file would destroy it.
    """

    def __init__(self, parts: FlowParts, partition: int | None) -> None:
        self._parts = parts
        self.failures = parts.failures
        self._partition = partition
        self._shard: SessionShard | None = None

    @_kept
    def on_batch(self, batch: list[Chunk]) -> tuple[Iterable[Changes], bool]:
        """Fold chunks in the order they were read."""
        if self._shard is None:
            partition = self._partition = batch[0].partition
            self._shard = SessionShard(partition, self._parts.tools, self._parts.session_file(partition))
            self._parts.begun.set()
        changes = [self._shard.process(chunk) for chunk in batch]
        return changes, StatefulBatchLogic.RETAIN

    @_kept
    def on_eof(self) -> tuple[Iterable[Changes], bool]:
        """At the end of the log, or of the flow: what waits for a tick."""
        return [] if self._shard is None else [self._shard.finish()], StatefulBatchLogic.RETAIN

    @_kept
    def snapshot(self) -> int:
        """Write the shard's file, then let Bytewax commit the epoch."""
        if self._shard is not None:
            self._shard.save()
        assert self._partition is not None
        return self._partition


class UserLogic(StatefulBatchLogic[UserNews, WriteJob, int]):  # type: ignore[misc]
    """A `UserShard` in Bytewax's hands."""

    def __init__(self, parts: FlowParts, number: int | None) -> None:
        self._parts = parts
        self.failures = parts.failures
        self._number = number
        self._shard: UserShard | None = None

    @_kept
    def on_batch(self, batch: list[UserNews]) -> tuple[Iterable[WriteJob], bool]:
        """Take contributions in; rows come with the ticks."""
        if self._shard is None:
            number = self._number = batch[0].shard
            file = StateFolder(self._parts.state / f"users-{part_name(number)}")
            self._shard = UserShard(number, self._parts.tools.rules, file, self._parts.tools.users)
        return [job for news in batch for job in self._process(self._shard, news)], StatefulBatchLogic.RETAIN

    @_kept
    def on_eof(self) -> tuple[Iterable[WriteJob], bool]:
        """At the end of the log, or of the flow: write what waits for a tick."""
        if self._shard is None:
            return [], StatefulBatchLogic.RETAIN
        return self._process(self._shard, UserNews(self._shard.number, last=True)), StatefulBatchLogic.RETAIN

    def _process(self, shard: UserShard, news: UserNews) -> list[WriteJob]:
        changes = shard.process(news)
        if not (changes.rows or changes.deleted):
            return []
        return jobs_by_group(shard.number, self._parts.tools.users, changes.rows, changes.deleted)

    @_kept
    def snapshot(self) -> int:
        """Write the shard's file, then let Bytewax commit the epoch."""
        if self._shard is not None:
            self._shard.save()
        assert self._number is not None
        return self._number
