"""The gate as Prometheus metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feature_repo.errors import LakeError
from quality.gate.build_gate import Gate

logger = logging.getLogger(__name__)


class GateCollector(Collector):
    """The gate as Prometheus metrics; reads the state at each scrape, so any process may expose it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Collect by group: builds held back, as-of time of the last good one, warnings."""
        blocked = GaugeMetricFamily("headrace_gate_blocked", "Builds held back by checks.", labels=["group"])
        good = GaugeMetricFamily(
            "headrace_gate_last_good_seconds", "As-of time of the last good build (epoch).", labels=["group"]
        )
        warned = GaugeMetricFamily(
            "headrace_gate_warnings", "Failed checks that do not block.", labels=["group"]
        )
        try:
            states = self._gate.states()
        except LakeError as error:
            logger.warning("no metrics of the gate: %s", error)
            states = []
        for state in states:
            blocked.add_metric([state.group], len(state.blocked))
            warned.add_metric([state.group], len(state.warnings))
            if state.good is not None:
                good.add_metric([state.group], state.good.as_of.timestamp())
        yield from (blocked, good, warned)
