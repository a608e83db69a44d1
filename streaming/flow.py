"""The Bytewax flow, loaded as `streaming.flow:flow`: event log → session fold → user fold → online store.

State is keyed by partition, not by session: a shard holds its sessions as bytes and writes what changed into
a file of its own at each epoch's end, while Bytewax's recovery keeps the log positions. A shard's file is
written before Bytewax commits the position of the same epoch, so after a crash state is level with the
position or ahead of it, never behind, and the fold takes no event twice (docs/adr/0020).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import xxhash
from bytewax import operators as op
from bytewax.dataflow import Dataflow

from feature_repo.errors import HeadraceError, StoreError
from feature_repo.groups.session_profile import GROUP as SESSION_GROUP
from feature_repo.groups.user_profile import GROUP as PROFILE_GROUP
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.online import OnlineStore, open_store
from feature_repo.online.consent_rows import COMPLETE, CONSENT, consent_rows, is_complete
from feature_repo.online.opening import encode_rows
from feature_repo.run_mode import check_mode
from feature_repo.settings import Settings
from streaming.dataflow.flow_metrics import shared_metrics
from streaming.dataflow.log_source import EventLogSource, SourceRules, part_name
from streaming.dataflow.operators import FlowParts, SessionLogic, UserLogic
from streaming.dataflow.store_canary import StoreWatch
from streaming.dataflow.store_sink import OnlineSink
from streaming.dataflow.store_writer import BackgroundWriter, OnlineWriter, WriteJob
from streaming.log import EventLog, open_log
from streaming.log.log_records import LogRecords
from streaming.sessions.item_catalogue import Knowledge
from streaming.sessions.messages import Changes, Chunk
from streaming.sessions.session_fold import FoldRules
from streaming.sessions.shard_context import ShardTools
from streaming.sessions.user_fold import Contribution
from streaming.sessions.user_shard import UserNews

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger(__name__)
_EVENT, _FACTS = b'{"record":"event"', (b'"user"', b'"item"')


def build_flow(parts: FlowParts) -> Dataflow:
    """The flow over given parts: the same for live, backfill, tests and benchmarks."""
    count = parts.log.partitions
    flow = Dataflow("sessions")
    source = EventLogSource(parts.log, parts.source, parts.stop, parts.monotonic)
    source = replace(
        source,
        state_position=parts.state_position,
        resume_position=parts.resume_position,
        from_state=parts.from_state,
    )
    chunks = op.input("log", flow, source)
    keyed = op.flat_map("by_partition", chunks, lambda chunk: spread(chunk, count))
    changes = op.stateful_batch("sessions", keyed, lambda resume: SessionLogic(parts, resume))
    news = op.flat_map("by_user", changes, lambda keyed: news_of(keyed[1], int(keyed[0]), count))
    users = op.stateful_batch("users", news, lambda resume: UserLogic(parts, resume))
    rows = op.flat_map(
        "rows", changes, lambda keyed: [(keyed[0], job) for job in jobs_of(parts, int(keyed[0]), keyed[1])]
    )
    jobs = op.merge("jobs", rows, users)
    op.output("store", jobs, OnlineSink(tuple(part_name(n) for n in range(count)), parts.sink))
    return flow


def spread(chunk: Chunk, partitions: int) -> list[tuple[str, Chunk]]:
    """A chunk to its own shard, and what it says of users and items to all: sessions anywhere may need it.

    Our own events are told by how they begin. Others write JSON in their own way: any record that may be of a
    user or an item goes to all, and a shard decodes it.
    """
    found = [(part_name(chunk.partition), chunk)]
    strange = [raw for raw in chunk.records if not raw.startswith(_EVENT)]
    if heard := tuple(raw for raw in strange if any(kind in raw for kind in _FACTS)):
        others = (n for n in range(partitions) if n != chunk.partition)
        found += [(part_name(n), Chunk(n, [], heard=heard)) for n in others]
    return found


def news_of(changes: Changes, partition: int, shards: int) -> list[tuple[str, UserNews]]:
    """Contributions by user shard; a tick goes to the shard of the partition's own number."""
    found: dict[int, list[Contribution]] = {}
    for contribution in changes.contributions:
        shard = xxhash.xxh64_intdigest(contribution.user_id.encode()) % shards
        found.setdefault(shard, []).append(contribution)
    tick = changes.heartbeat is not None
    if tick:
        found.setdefault(partition, [])
    return [
        (
            part_name(shard),
            UserNews(shard, listed, tick and shard == partition, changes.horizon_us, changes.rewrite),
        )
        for shard, listed in found.items()
    ]


def jobs_of(parts: FlowParts, partition: int, changes: Changes) -> list[WriteJob]:
    """What the store is to do: long-term profiles of those who withdrew consent go at once.

    A denial replaces what is stored whatever the clock says, which may have gone back since.
    """
    if changes.heartbeat is not None:
        parts.metrics.observe(changes.heartbeat)
    sessions = WriteJob(partition, SESSION_GROUP, changes.rows, changes.deleted, changes.heartbeat)
    if changes.restated or changes.complete:
        return [*restating(parts, partition, changes), *stating(parts, partition, changes), sessions]
    if not changes.consents:
        return [sessions]
    return [*stating(parts, partition, changes), sessions]


def stating(parts: FlowParts, partition: int, changes: Changes) -> list[WriteJob]:
    """What records of users state, and what follows for their profiles."""
    stated = encode_rows(CONSENT, consent_rows(changes.consents, parts.tools.clock()))
    denying = [user_id for user_id, permitted in changes.consents.items() if permitted is False]
    return [
        WriteJob(partition, CONSENT, stated, denying),
        WriteJob(partition, PROFILE_GROUP, deleted=denying),
    ]


def restating(parts: FlowParts, partition: int, changes: Changes) -> list[WriteJob]:
    """What an emptied store is told again, and that it is complete.

    A denial is as new as can be. Consent is as old as can be: whatever else the store was told of the user
    meanwhile is newer than what this process knows.
    """
    denying = {user_id: said for user_id, said in changes.restated.items() if said is False}
    giving = {user_id: said for user_id, said in changes.restated.items() if said is True}
    rows = [*consent_rows(denying, parts.tools.clock()), *consent_rows(giving, EPOCH)]
    marks = {COMPLETE: b"1"} if changes.complete else {}
    return [
        WriteJob(partition, PROFILE_GROUP, deleted=list(denying)),
        WriteJob(partition, CONSENT, encode_rows(CONSENT, rows), marks=marks),
    ]


@dataclass(frozen=True)
class OpenStream:
    """A flow built from settings, with what has to be closed after it."""

    flow: Dataflow
    stop: threading.Event
    store: OnlineStore
    log: EventLog
    writer: BackgroundWriter
    failures: list[HeadraceError]
    begun: threading.Event

    @property
    def written(self) -> Mapping[int, int]:
        """Rows written so far, by shard."""
        return self.writer.written

    def close(self) -> None:
        """Let go of the writer, the log and the store."""
        self.stop.set()
        self.writer.close()
        self.log.close()
        self.store.close()


def open_stream(settings: Settings, to_end: bool = False) -> OpenStream:
    """Build the flow from settings: the composition root of the stream.

    Args:
        to_end: stop at the end of the log.
    """
    home = Home(settings.home).ensure()
    mode = check_mode(settings, home)
    log, store, stop = open_log(settings, home), open_store(settings, home), threading.Event()
    metrics = shared_metrics()
    writer = BackgroundWriter(
        OnlineWriter(
            store,
            stop,
            retried=lambda partition: metrics.retries.labels(str(partition)).inc(),
            wrote=lambda partition, rows: metrics.written.labels(str(partition)).inc(rows),
        )
    )
    rules = SourceRules(
        settings.stream_batch_size, settings.stream_batch_ms / 1000, settings.heartbeat_s, to_end
    )
    era = f"{mode.stores}/" if mode is not None and mode.stores else ""
    watch = StoreWatch(lambda: store.marks("canary/"), store.put_marks, era)
    parts = FlowParts(
        log,
        rules,
        replace(shard_tools(settings, home, watch.lost), consent_lost=lambda: consent_lost(store)),
        home.stream / "state",
        writer,
        metrics,
        stop,
    )
    return OpenStream(build_flow(parts), stop, store, log, writer, parts.failures, parts.begun)


def shard_tools(
    settings: Settings,
    home: Home,
    store_lost: Callable[[str, bool], bool] = lambda name, known: False,
    clock: Callable[[], datetime] | None = None,
) -> ShardTools:
    """What shards share, from settings; the catalogue is read here."""
    from quality.quarantine.store import Quarantine  # noqa: PLC0415

    knowledge = Knowledge(Lake(home.lake))
    knowledge.refresh()
    now = clock or settings.clock
    return ShardTools(
        rules=FoldRules.of(settings),
        records=LogRecords(settings, now),
        weights=settings.weights,
        knowledge=knowledge,
        quarantine=Quarantine.of(settings, home, now).warm(),
        clock=now,
        store_lost=store_lost,
    )


def consent_lost(store: OnlineStore) -> bool:
    """Whether the store lacks what users stated; one that does not answer is asked again."""
    try:
        return not is_complete(store)
    except StoreError:
        return False


def own_error(error: BaseException | None) -> HeadraceError | None:
    """The error of ours under one of Bytewax's, which wraps what its parts raise; `None` if there is none."""
    while error is not None and not isinstance(error, HeadraceError):
        error = error.__cause__
    return error


def __getattr__(name: str) -> Any:
    """`flow`, made ready from the environment when a loader asks for it; an import alone does no I/O."""
    if name == "flow":
        from streaming.dataflow.service import cluster_flow  # noqa: PLC0415 - it runs what is built here

        return cluster_flow()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
