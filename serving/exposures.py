"""Counts which units saw which arm, so that a broken split is noticed before its lift is believed."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan

from serving.context import RankContext
from serving.decision import sampled
from serving.experiments import HOLDOUT
from serving.flags import Flags
from serving.metrics import Metrics
from serving.page import page_figures
from serving.sample_ratio import SampleRatio

OUT = "out"


class Exposures:
    """Units by experiment and arm, the holdout included; starts over for an experiment whose arms change."""

    def __init__(self) -> None:
        self._ratios: dict[str, tuple[dict[str, float], SampleRatio]] = {}

    def see(self, context: RankContext) -> None:
        """Note the arms of an answer."""
        request, flags = context.request, context.model.flags
        unit = request.user_id or request.session_id
        if unit is None or "arm" not in context.completed or request.overrides:
            return
        if flags.holdout > 0.0:
            self._ratio(HOLDOUT, {"in": flags.holdout, OUT: 1.0 - flags.holdout}).see(
                unit, context.arms.get(HOLDOUT, OUT)
            )
        for experiment in flags.experiments:
            arm = context.arms.get(experiment.name)
            if arm is not None:
                weights = {name: one.weight for name, one in experiment.arms.items()}
                seen = unit if experiment.unit == "user" else request.session_id or unit
                self._ratio(experiment.name, weights).see(seen, arm)

    def show(self, metrics: Metrics, flags: Flags) -> None:
        """Put counts and the mismatch into the metrics; called when they are asked for."""
        current = {HOLDOUT, *(e.name for e in flags.experiments)}
        for name, (_, ratio) in list(self._ratios.items()):  # rankings go on meanwhile
            if name not in current:
                continue
            for arm, count in ratio.counts.items():
                metrics.arm_units.labels(name, arm).set(count)
            metrics.sample_ratio_mismatch.labels(name).set(ratio.mismatched)

    def _ratio(self, name: str, weights: dict[str, float]) -> SampleRatio:
        held = self._ratios.get(name)
        if held is None or held[0] != weights:
            held = self._ratios[name] = (weights, SampleRatio(weights))
        return held[1]


def observe_page(metrics: Metrics, context: RankContext, share: float = 1.0) -> None:
    """Put the figures of a share of first pages into the metrics, under each arm they belong to."""
    snapshot = context.model.snapshot
    if snapshot is None or not len(context.numbers) or not sampled(context.request_id, share):
        return
    figures = asdict(page_figures(context.numbers[context.order], snapshot))
    arms = [f"{name}:{arm}" for name, arm in context.arms.items()] or ["none"]
    for name, value in figures.items():
        if not isnan(value):
            for arm in arms:
                metrics.page[name].labels(arm).observe(value)
