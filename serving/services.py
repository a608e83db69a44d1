"""The services of one serving process, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from time import perf_counter
from typing import Any

from feature_repo.errors import HeadraceError, LogError
from feature_repo.home import Home
from feature_repo.online import OnlineStore
from feature_repo.settings import Settings
from serving.api.api_keys import Keys
from serving.api.events import Door
from serving.control.flag_control import FlagControl
from serving.control.flags import Flags, version_of
from serving.control.reloading import Watched, Watcher
from serving.control.rules import Rules
from serving.decisions.exposures import Exposures
from serving.decisions.lookup import DecisionFinder, TooFarBackError
from serving.decisions.reasons import in_words
from serving.decisions.record import Decision, encode_decision
from serving.decisions.recorder import Recorder
from serving.decisions.sample_ratio import warm_statistics
from serving.features.consent_denials import Permissions
from serving.features.consent_store import ConsentStore
from serving.features.feature_plan import Catalogue
from serving.features.feature_table import FeatureTable
from serving.features.reader import FeatureReader
from serving.features.row_source import RowSource
from serving.features.stream_health import StreamHealth
from serving.items.item_snapshot import ItemSnapshot
from serving.monitoring.circuit_breaker import Breaker
from serving.monitoring.metrics import Metrics
from serving.pipeline.runner import Ranker
from serving.pipeline.stage import Stage
from serving.schemas.rank_request import Candidate, RankRequest, RequestDecoder
from serving.scoring.blend import Blend
from serving.warmup import warm_stages
from streaming.log import EventLog

log = logging.getLogger(__name__)

FLAGS_INTERVAL_S = 0.2
MODEL_INTERVAL_S = 0.5
STREAM_INTERVAL_S = 1.0
_WARM_ROUNDS = 20


@dataclass(frozen=True)
class Parts:
    """The parts that change while the process runs."""

    snapshot: Watched[ItemSnapshot | None]
    blend: Watched[Blend | None]
    flags: Watched[Flags]
    rules: Watched[Rules]
    stream: StreamHealth
    consent: ConsentStore
    breakers: Mapping[str, Breaker]

    @property
    def reloaded(self) -> tuple[Watched[Any], ...]:
        """The parts that are reloaded when their files change."""
        return (self.snapshot, self.blend, self.flags, self.rules)


@dataclass
class Services:
    """The parts of one serving process."""

    settings: Settings
    home: Home
    metrics: Metrics
    keys: Keys
    store: OnlineStore
    source: RowSource
    parts: Parts
    permissions: Permissions
    reader: FeatureReader
    feature_table: FeatureTable
    catalogue: Catalogue
    ranker: Ranker
    scoring: Sequence[Stage]
    decoder: RequestDecoder
    flag_control: FlagControl
    log: EventLog
    decisions: EventLog
    recorder: Recorder
    finder: DecisionFinder
    door: Door
    exposures: Exposures = field(default_factory=Exposures)
    ready: bool = False
    _watchers: list[Watcher] = field(default_factory=list)

    async def start(self) -> None:
        """Load the model, warm up every code path, then report ready."""
        parts = self.parts
        files = [part.refresh for part in parts.reloaded]
        for refresh in (*files, parts.stream.refresh, parts.consent.refresh):
            try:
                await asyncio.to_thread(refresh)
            except Exception:
                log.exception("loading failed at start; serving the base order and retrying")
        controls = [self.flag_control.retry, parts.flags.refresh, parts.rules.refresh]
        self._watchers = [
            Watcher(controls, FLAGS_INTERVAL_S, "flags"),
            Watcher([parts.snapshot.refresh, parts.blend.refresh], MODEL_INTERVAL_S, "model"),
            Watcher(
                [parts.stream.refresh, parts.consent.refresh, self._observe], STREAM_INTERVAL_S, "stream"
            ),
        ]
        for watcher in self._watchers:
            watcher.start()
        self.recorder.start()
        log.info("warming up; the first start compiles for about ten seconds, later starts use the cache")
        await asyncio.to_thread(warm_statistics)
        await asyncio.to_thread(warm_stages, self.scoring, self.parts.flags.value)
        await self.warm()
        self.ready = True
        log.info("serving is ready: %s", self.state())

    async def warm(self) -> None:
        """Rank for a nonexistent user a few times, so that the first real request finds everything loaded."""
        await self.reader.warm()
        snapshot = self.parts.snapshot.value
        items = [Candidate(i) for i in (snapshot.item_ids[:100] if snapshot is not None else ("a", "b"))]
        request = RankRequest(
            candidates=items, user_id="-", session_id="-", request_id="warm-up", explain=True
        )
        for _ in range(_WARM_ROUNDS):
            await self.ranker.rank(self.ranker.open(request, perf_counter()))
        for breaker in self.parts.breakers.values():
            breaker.reset()  # cold reads say nothing about the store

    async def stop(self) -> None:
        """Stop the watchers, flush pending decision records and close every connection."""
        self.ready = False
        for watcher in self._watchers:
            await asyncio.to_thread(watcher.stop)
        await asyncio.to_thread(self.recorder.stop)
        await self.source.close()
        self.store.close()
        self.log.close()
        self.decisions.close()

    def find_decisions(self, request_id: str) -> list[Decision]:
        """Find the records of a request id, newest first, in this process's memory and in the log.

        Raises:
            TooFarBackError: the newest records do not contain it.
            LogError: the log cannot be read.
        """
        found = self.recorder.recent(request_id)
        try:
            logged = self.finder.find_all(request_id)
        except (TooFarBackError, LogError):
            if not found:
                raise
            logged = []
        known = {encode_decision(decision) for decision in found}
        found += [decision for decision in logged if encode_decision(decision) not in known]
        return sorted(found, key=attrgetter("time"), reverse=True)

    def explain(self, decision: Decision) -> list[str]:
        """Explain each item's position in one or more sentences; empty if a build no longer exists."""
        try:
            return in_words(decision, self.scoring, self.home)
        except HeadraceError as error:
            log.warning("decision %r cannot be explained: %s", decision.request_id, error)
            return []

    def state(self) -> dict[str, Any]:
        """Report the state of everything that personalization depends on."""
        parts = self.parts
        snapshot, blend = parts.snapshot.value, parts.blend.value
        return {
            "items": None if snapshot is None else snapshot.version,
            "blend": None if blend is None else blend.version,
            "flags": version_of(parts.flags.value),
            "personalization": parts.flags.value.personalization,
            "unstored_flags": self.flag_control.unstored,
            "reloads": {part.name: part.state for part in parts.reloaded},
            "stream_lag_s": parts.stream.lag_s,
            "stream_stale": parts.stream.stale,
            "consent_complete": parts.consent.complete,
            "breakers": {name: breaker.state.value for name, breaker in parts.breakers.items()},
        }

    def render_metrics(self) -> bytes:
        """Render all metrics, including those computed only at a scrape."""
        self.exposures.show(self.metrics, self.parts.flags.value)
        return self.metrics.render()

    def _observe(self) -> None:
        snapshot = self.parts.snapshot.value
        if snapshot is not None:
            self.metrics.model_as_of.set(snapshot.as_of.timestamp())
        self.metrics.reloaded({part.name: part.state == "ok" for part in self.parts.reloaded})
        self.metrics.stream_stale.set(self.parts.stream.stale)
        self.metrics.stream_lag.set(self.parts.stream.lag_s or 0.0)
        self.exposures.share(self.metrics)
