"""Serving's Prometheus metrics. No label ever holds an id."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.monitoring.circuit_breaker import State
from serving.schemas.rank_response import RankAnswer

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus-client: the folder in which workers share their metrics."""
_PAGE = {
    "category_coverage": "Share of all categories on the first page",
    "diversity": "Mean dissimilarity of the page's items",
    "mean_age_days": "Mean age of the page's items",
    "popular_share": "Share of popular items on the page",
}
WORKERS_FOLDER = "metrics"
_OPENNESS = {State.CLOSED: 0.0, State.HALF_OPEN: 0.5, State.OPEN: 1.0}

RELOADED = ("items", "blend", "flags", "rules")
"""Parts that are reloaded while the process runs."""
DROPPED = ("queue_full", "log_failed", "log_open", "broken", "shutdown")
"""Why decision records are lost."""

WANTED = frozenset(
    {
        "consent_denied",
        "gate_closed",
        "personalization_off",
        "recent_expired",
        "session_expired",
        "session_of_another",
        "user_expired",
    }
)
"""Degraded codes that are no fault: an operator or a user decided so, or the visitor was away for long."""

_MS = (0.25, 0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100, 250, 1000)


@dataclass(frozen=True, slots=True)
class ExperimentFigures:
    """Figures of one experiment.

    Attributes:
        units: number of exposed units by arm.
        mismatched: whether the shares of the arms differ significantly from the declared ones.
    """

    units: Mapping[str, int]
    mismatched: bool


class ExperimentCollector(Collector):
    """The latest figures of the running experiments. They cover all workers, so workers are not summed."""

    def __init__(self) -> None:
        self.figures: Mapping[str, ExperimentFigures] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of a scrape."""
        units = GaugeMetricFamily(
            "headrace_experiment_units",
            "Units exposed, by experiment and arm.",
            labels=["experiment", "arm"],
        )
        mismatch = GaugeMetricFamily(
            "headrace_sample_ratio_mismatch",
            "1 if the shares of the arms differ from the declared ones.",
            labels=["experiment"],
        )
        for name, figures in self.figures.items():
            for arm, count in figures.units.items():
                units.add_metric([name, arm], count)
            mismatch.add_metric([name], figures.mismatched)
        yield units
        yield mismatch


class Metrics:
    """The metrics of one serving process.

    Args:
        collectors: collectors that read files at each scrape, with the same result in every worker.
    """

    def __init__(self, *collectors: Collector) -> None:
        self.registry = registry = CollectorRegistry()
        self._collectors = collectors
        self.ranks = Counter("headrace_ranks", "Rankings answered, by tier.", ["tier"], registry=registry)
        self.degraded = Counter(
            "headrace_rank_degraded", "Rankings that carried a degraded code.", ["code"], registry=registry
        )
        self.faulty = Counter(
            "headrace_ranks_faulty",
            "Rankings degraded by a fault: something was late, stale, missing or failed.",
            registry=registry,
        )
        self.refused = Counter(
            "headrace_requests_refused",
            "Requests answered with an error, by code.",
            ["code"],
            registry=registry,
        )
        self.rank_ms = Histogram(
            "headrace_rank_milliseconds", "Time of a ranking.", buckets=_MS, registry=registry
        )
        self.features_ms = Histogram(
            "headrace_features_milliseconds",
            "Time of an online features request.",
            buckets=_MS,
            registry=registry,
        )
        self.stage_ms = Histogram(
            "headrace_stage_milliseconds", "Time of a stage.", ["stage"], buckets=_MS, registry=registry
        )
        self.events = Counter(
            "headrace_events_posted", "Events posted, by outcome.", ["outcome"], registry=registry
        )
        self.reload_failures = Counter(
            "headrace_reload_failures", "Failed reloads of a changed file.", ["what"], registry=registry
        )
        self.reload_failing = self._gauge(
            "headrace_reload_failing",
            "1 while a file cannot be loaded and its last good version serves.",
            ["what"],
        )
        self.decisions = Counter(
            "headrace_decisions", "Decision records, by outcome.", ["outcome"], registry=registry
        )
        self.decisions_dropped = Counter(
            "headrace_decisions_dropped", "Decision records lost, by reason.", ["reason"], registry=registry
        )
        self.model_as_of = self._gauge("headrace_items_as_of_seconds", "As-of time of the item features.")
        self.stream_stale = self._gauge("headrace_stream_stale", "1 while the stream lags too far.")
        self.stream_lag = self._gauge("headrace_stream_lag_seconds", "Lag of the stream's worst partition.")
        self.breakers = self._gauge(
            "headrace_breaker_open", "0 closed, 0.5 half-open, 1 open; by dependency.", ["dependency"]
        )
        self.experiments = ExperimentCollector()
        registry.register(self.experiments)
        self.page = {
            figure: Summary(f"headrace_page_{figure}", f"{meaning}, by arm.", ["arm"], registry=registry)
            for figure, meaning in _PAGE.items()
        }
        for what in RELOADED:  # start at 0, otherwise rate() misses the first increment
            self.reload_failures.labels(what)
        for reason in DROPPED:
            self.decisions_dropped.labels(reason)
        self._stages: dict[str, Histogram] = {}
        self._tiers: dict[str, Counter] = {}

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        # With several workers a gauge shows the worst value of the live ones.
        return Gauge(name, meaning, labels, registry=self.registry, multiprocess_mode="livemax")

    @property
    def folder(self) -> Path | None:
        """Return the folder in which workers share their metrics, or `None` with a single process."""
        # Importing Feast sets the variable too, so check that it is our folder.
        folder = Path(os.environ.get(MULTIPROCESS, ""))
        return folder if folder.name == WORKERS_FOLDER else None

    def render(self) -> bytes:
        """Render all metrics of every worker, and those of the layers below, as Prometheus text."""
        files = CollectorRegistry()
        for collector in self._collectors:
            files.register(collector)
        if (folder := self.folder) is not None:
            shared = CollectorRegistry()
            bury(folder)
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
            files.register(self.experiments)
            return generate_latest(shared) + generate_latest(files)
        return generate_latest(self.registry) + generate_latest(REGISTRY) + generate_latest(files)

    def breaker_moved(self, name: str, state: State) -> None:
        """Show the state of a breaker."""
        self.breakers.labels(name).set(_OPENNESS[state])

    def reloaded(self, ok: Mapping[str, bool]) -> None:
        """Show whether each file can be read. If not, its last good version is in force."""
        for what, readable in ok.items():
            self.reload_failing.labels(what).set(not readable)

    def reload_failed(self, what: str) -> None:
        """Count a failed reload."""
        self.reload_failures.labels(what).inc()

    def ranked(self, answer: RankAnswer) -> None:
        """Count one answer."""
        tier = self._tiers.get(answer.tier)
        if tier is None:
            tier = self._tiers[answer.tier] = self.ranks.labels(answer.tier)
        tier.inc()
        for code in answer.degraded:
            self.degraded.labels(code).inc()
        if not WANTED.issuperset(answer.degraded):
            self.faulty.inc()
        for name, spent in answer.timings_ms.items():
            if name == "total":
                self.rank_ms.observe(spent)
                continue
            stage = self._stages.get(name)
            if stage is None:
                stage = self._stages[name] = self.stage_ms.labels(name)
            stage.observe(spent)


def bury(folder: Path) -> None:
    """Delete the gauges of dead workers, so that their values are not shown forever."""
    for path in folder.glob("gauge_live*_*.db"):
        number = path.stem.rpartition("_")[2]
        if number.isdigit() and not _alive(int(number)):
            path.unlink(missing_ok=True)


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
