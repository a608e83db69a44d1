"""Counts which units saw which arm, so that a broken split is noticed before its lift is believed."""

from __future__ import annotations

import logging
from dataclasses import asdict
from math import isnan

from serving.control.experiments import HOLDOUT, Experiment
from serving.control.flags import Flags
from serving.decisions.exposure_units import Tally, Units
from serving.decisions.page_metrics import page_figures
from serving.decisions.record import sampled
from serving.decisions.sample_ratio import mismatched
from serving.monitoring.metrics import ExperimentFigures, Metrics
from serving.pipeline.context import RankContext

log = logging.getLogger(__name__)

OUT = "out"


class Exposures:
    """Units by experiment and arm, the holdout included; starts over for an experiment whose arms change."""

    def __init__(self) -> None:
        self._units: dict[str, Units] = {}

    def see(self, context: RankContext) -> None:
        """Note the arms of an answer."""
        request, flags = context.request, context.model.flags
        unit = request.user_id or request.session_id
        if unit is None or "arm" not in context.completed or request.overrides:
            return
        if flags.holdout > 0.0:
            self._of(HOLDOUT, _sides(flags)).see(unit, context.arms.get(HOLDOUT, OUT))
        for experiment in flags.experiments:
            arm = context.arms.get(experiment.name)
            if arm is not None:
                seen = unit if experiment.unit == "user" else request.session_id or unit
                self._of(experiment.name, _weights(experiment)).see(seen, arm)

    def share(self, metrics: Metrics) -> None:
        """Let the other workers know the units of this one; with one worker there is nothing to do.

        Raises:
            OSError: they cannot be written down.
        """
        if (folder := metrics.folder) is not None:
            for units in list(self._units.values()):  # rankings go on meanwhile
                units.share(folder)

    def show(self, metrics: Metrics, flags: Flags) -> None:
        """Put counts and mismatch of what is on into the metrics; called when they are asked for."""
        declared = {e.name: _weights(e) for e in flags.experiments}
        if flags.holdout > 0.0:
            declared[HOLDOUT] = _sides(flags)
        metrics.experiments.figures = {
            name: self._figures(metrics, name, weights) for name, weights in declared.items()
        }

    def _figures(self, metrics: Metrics, name: str, weights: dict[str, float]) -> ExperimentFigures:
        units = self._units.get(name)
        if units is None or units.weights != weights:
            units = Units(name, weights)  # another worker may have seen some
        counts, halvings = _tally(units, metrics)
        return ExperimentFigures(counts, mismatched(counts, weights, halvings))

    def _of(self, name: str, weights: dict[str, float]) -> Units:
        held = self._units.get(name)
        if held is None or held.weights != weights:
            held = self._units[name] = Units(name, weights)
        return held


def _sides(flags: Flags) -> dict[str, float]:
    return {"in": flags.holdout, OUT: 1.0 - flags.holdout}


def _weights(experiment: Experiment) -> dict[str, float]:
    return {name: arm.weight for name, arm in experiment.arms.items()}


def _tally(units: Units, metrics: Metrics) -> Tally:
    """Units of all workers; where their files fail, of this one."""
    folder = metrics.folder
    if folder is None:
        return units.tally()
    try:
        return units.tally_of_all(folder)
    except OSError as error:
        log.warning("exposed units are those of one worker only: %s", error)
        return units.tally()


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
