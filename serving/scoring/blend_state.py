"""The gate's decision on the blend that serves, read without importing the scoring code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feature_repo.errors import BuildError

KINDS = ("base", "rule", "popularity", "fitted")

logger = logging.getLogger(__name__)


class GateState(msgspec.Struct, frozen=True):
    """The decision and its reason."""

    passed: bool
    reason: str
    difference: float | None = None
    low: float | None = None


class BlendState(msgspec.Struct, frozen=True):
    """The fields of a blend's file (`serving.scoring.blend`) that say what serves."""

    version: str
    kind: str
    gate: GateState
    fitted_at: str = ""
    ranker: str = ""

    @property
    def serves(self) -> str:
        """Name of what serves: the simple ranker, or the kind of blend."""
        return self.ranker or self.kind


def read_blend_state(models: Path) -> BlendState | None:
    """Read the state of the blend that serves, or return `None` before the first fit.

    Raises:
        BuildError: the file that ``CURRENT`` names is missing or malformed.
    """
    try:
        path = models / (models / "CURRENT").read_text().strip()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=BlendState)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path}: not a readable blend ({error}); fit again, or name another file in CURRENT"
        raise BuildError(msg) from error


class BlendCollector(Collector):
    """Reports what serves as Prometheus metrics; reads the file at each scrape."""

    def __init__(self, models: Path) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """Report whether the gate is open, what serves, and the lower bound of the gain."""
        passed = GaugeMetricFamily(
            "headrace_blend_gate_open", "Whether the gate lets the fitted blend serve (1) or not (0)."
        )
        serves = GaugeMetricFamily("headrace_blend_serves", "1 for the order that serves.", labels=["kind"])
        low = GaugeMetricFamily(
            "headrace_blend_gate_low", "Lower end of the fitted blend's gain in NDCG@10 on held-out lists."
        )
        try:
            state = read_blend_state(self._models)
        except (BuildError, OSError, UnicodeDecodeError) as error:
            logger.warning("no metrics of the blend: %s", error)
            state = None
        if state is not None:
            passed.add_metric([], float(state.gate.passed))
            for kind in KINDS:
                serves.add_metric([kind], float(kind == state.kind))
            if state.gate.low is not None:
                low.add_metric([], state.gate.low)
        yield from (passed, serves, low)
