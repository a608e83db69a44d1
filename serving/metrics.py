"""What serving counts, as Prometheus metrics. No label ever holds an id."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.answer import RankAnswer

_MS = (0.25, 0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100, 250, 1000)


class Metrics:
    """The metrics of one serving process.

    Args:
        registry: where they are registered; one of its own for each app, so that tests do not share counts.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.ranks = Counter("headrace_ranks", "Rankings answered, by tier.", ["tier"], registry=registry)
        self.degraded = Counter(
            "headrace_rank_degraded", "Rankings that carried a degraded code.", ["code"], registry=registry
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
        self.stage_ms = Histogram(
            "headrace_stage_milliseconds", "Time of a stage.", ["stage"], buckets=_MS, registry=registry
        )
        self.events = Counter(
            "headrace_events_posted", "Events posted, by outcome.", ["outcome"], registry=registry
        )
        self.reload_failures = Counter(
            "headrace_reload_failures", "Files that could not be loaded anew.", ["what"], registry=registry
        )
        self.model_as_of = Gauge(
            "headrace_items_as_of_seconds", "As-of time of the item features held.", registry=registry
        )
        self._stages: dict[str, Histogram] = {}
        self._tiers: dict[str, Counter] = {}

    def render(self) -> bytes:
        """All metrics of the process in Prometheus's text format: these, and those of the layers below."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)

    def ranked(self, answer: RankAnswer) -> None:
        """Count one answer."""
        tier = self._tiers.get(answer.tier)
        if tier is None:
            tier = self._tiers[answer.tier] = self.ranks.labels(answer.tier)
        tier.inc()
        for code in answer.degraded:
            self.degraded.labels(code).inc()
        for name, spent in answer.timings_ms.items():
            if name == "total":
                self.rank_ms.observe(spent)
                continue
            stage = self._stages.get(name)
            if stage is None:
                stage = self._stages[name] = self.stage_ms.labels(name)
            stage.observe(spent)
