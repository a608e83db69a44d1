"""Opens a flow from settings: the composition root of the stream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from bytewax.dataflow import Dataflow

from feature_repo.errors import HeadraceError, StoreError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.online import OnlineStore, open_store
from feature_repo.online.consent_rows import is_complete
from feature_repo.run_mode import check_mode
from feature_repo.settings import Settings
from streaming.dataflow.flow_metrics import shared_metrics
from streaming.dataflow.graph import build_flow
from streaming.dataflow.log_source import SourceRules
from streaming.dataflow.operators import FlowParts
from streaming.dataflow.store_canary import StoreWatch
from streaming.dataflow.store_writer import BackgroundWriter, OnlineWriter
from streaming.log import EventLog, open_log
from streaming.log.log_records import LogRecords
from streaming.sessions.item_catalogue import Knowledge
from streaming.sessions.session_fold import FoldRules
from streaming.sessions.shard_context import ShardTools


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
    """Build the flow from settings.

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
