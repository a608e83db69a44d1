"""What a serving process holds: store, model, watchers, ranker; opened and closed together."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from feature_repo.clock import Clock
from feature_repo.contract import Contract
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake import Builds
from feature_repo.online import OnlineStore, open_store
from feature_repo.settings import Settings
from quality.quarantine import Quarantine
from serving.blend import Blend, current_path, load_blend
from serving.live import Model, Watched, Watcher, stamp_of
from serving.metrics import Metrics
from serving.rank import Ranker
from serving.reader import FeatureReader, ReadLimits, RowSource
from serving.redis_source import RedisSource
from serving.request import RequestDecoder
from serving.routes.events import Door
from serving.snapshot import ItemSnapshot, load_snapshot
from serving.source import ThreadSource
from serving.stages.blending import BlendStage
from serving.stages.consent import ConsentStage
from serving.stages.features import FeaturesStage
from streaming.door import EventDoor, count_unknown
from streaming.log import EventLog, open_log

log = logging.getLogger(__name__)

RELOAD_INTERVAL_S = 0.5
SNAPSHOT_GROUPS = ("item_profile", "item_neighbours")


@dataclass
class Services:
    """The parts of one serving process."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    store: OnlineStore
    source: RowSource
    reader: FeatureReader
    snapshot: Watched[ItemSnapshot | None]
    blend: Watched[Blend | None]
    ranker: Ranker
    decoder: RequestDecoder
    log: EventLog
    door: Door
    watcher: Watcher
    ready: bool = field(default=False)

    async def start(self) -> None:
        """Load the model, warm the reader; then requests may come."""
        await asyncio.to_thread(self.refresh)
        self.watcher.start()
        await self.reader.warm()
        self.ready = True
        log.info("serving is ready: %s", self.state())

    async def stop(self) -> None:
        """Stop watching and let go of every connection."""
        self.ready = False
        await asyncio.to_thread(self.watcher.stop)
        await self.source.close()
        self.store.close()
        self.log.close()

    def refresh(self) -> None:
        """Load whatever changed on disk."""
        self.snapshot.refresh()
        self.blend.refresh()

    def state(self) -> dict[str, Any]:
        """What personalization has to work with."""
        snapshot, blend = self.snapshot.value, self.blend.value
        return {
            "items": None if snapshot is None else snapshot.version,
            "blend": None if blend is None else blend.version,
        }


def open_services(settings: Settings) -> Services:
    """Construct everything; nothing is read or connected yet but the home, which must be writable.

    Raises:
        SettingsError: a setting cannot work.
    """
    home = Home(settings.home).ensure()
    clock = settings.clock
    metrics = Metrics(CollectorRegistry())
    store = open_store(settings, home)
    source = open_source(settings, store)
    reader = FeatureReader(source, all_groups(), _limits(settings))
    snapshot, blend = _snapshot(home, metrics), _blend(home, metrics)
    event_log = open_log(settings, home)
    contract = Contract(settings, clock, count_unknown)
    stages = (ConsentStage(settings.consent_default), FeaturesStage(reader), BlendStage())
    ranker = Ranker(
        stages,
        lambda: Model(snapshot.value, blend.value),
        clock,
        timedelta(milliseconds=settings.budget_ms),
    )
    return Services(
        settings=settings,
        clock=clock,
        metrics=metrics,
        store=store,
        source=source,
        reader=reader,
        snapshot=snapshot,
        blend=blend,
        ranker=ranker,
        decoder=RequestDecoder(settings),
        log=event_log,
        door=EventDoor(contract, event_log, Quarantine(home.quarantine, clock)),
        watcher=Watcher([snapshot.refresh, blend.refresh], RELOAD_INTERVAL_S, "model"),
    )


def open_source(settings: Settings, store: OnlineStore) -> RowSource:
    """Rows without blocking: asyncio on Redis, threads on SQLite."""
    if settings.online_store == "redis":
        return RedisSource(settings.redis_url.get_secret_value())
    return ThreadSource(store)


def _limits(settings: Settings) -> ReadLimits:
    return ReadLimits(
        store=timedelta(milliseconds=settings.store_budget_ms),
        session_ttl=timedelta(seconds=settings.session_ttl_s),
        session_copy=timedelta(seconds=settings.session_copy_s),
        profile_copy=timedelta(seconds=settings.profile_copy_s),
        segment_reuse=timedelta(seconds=settings.segment_reuse_s),
    )


def _snapshot(home: Home, metrics: Metrics) -> Watched[ItemSnapshot | None]:
    builds = Builds(home.features)
    groups = [all_groups()[name] for name in SNAPSHOT_GROUPS]
    pointers = [builds.folder(g.name, g.version) / "CURRENT" for g in groups]
    return Watched(
        "item features",
        lambda: stamp_of(*pointers),
        lambda: load_snapshot(builds),
        None,
        lambda name: metrics.reload_failures.labels(name).inc(),
    )


def _blend(home: Home, metrics: Metrics) -> Watched[Blend | None]:
    return Watched(
        "blend",
        lambda: stamp_of(current_path(home.models)),
        lambda: load_blend(home.models),
        None,
        lambda name: metrics.reload_failures.labels(name).inc(),
    )
