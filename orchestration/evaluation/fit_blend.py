"""Fits the blend on history and decides, by the do-no-harm gate, whether it serves."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from feature_repo.arrays import Floats
from feature_repo.errors import BuildError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.evaluation.history import Progress, lake_history, silent
from orchestration.evaluation.history_replay import Replay, Replayed
from orchestration.evaluation.listwise_softmax import fit_softmax, scales_of, standardized
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from quality.ranking.metrics import Interval, mean_interval, ndcg, paired_interval, positions_of
from serving.scoring.blend import Blend, Gate, centred_signals, save_blend, simple_blend
from serving.scoring.signal_groups import BASE, GROUPS
from serving.scoring.signals import group_of

log = logging.getLogger(__name__)

MIN_LISTS = 300
"""Lists with something relevant below which no blend is fitted: a fit on fewer can lose to a simple rule."""
FIT_SHARE = 0.8
"""Share of history, the oldest, on which the candidate of the gate is fitted; the newest rest judges it."""
MAX_EVENTS = 300_000
"""Events of the newest days that are read."""
MAX_LISTS = 6_000
"""Lists replayed, a sample by hash: more do not move forty weights, but take time at every build."""
REFRESH = timedelta(hours=1)
"""How often the schedule builds batch features; the replay holds them still as long, as serving does."""
MIN_BUILDS = 100
"""A history shorter than that many builds is replayed as if builds came more often."""
CANDIDATES = PopularCandidates(100, timedelta(hours=1))
_POPULARITY = ("log_ctr", "log_clicks", "popularity:short", "popularity:mid", "popularity:long")


def fit_blend(settings: Settings, home: Home, progress: Progress = silent) -> Blend:
    """Fit on the lake and save; running servers pick it up.

    Raises:
        BuildError: the lake holds no event, or the models folder cannot be written.
    """
    history = lake_history(Lake(home.lake), settings, MAX_EVENTS, progress)
    if not history.events:
        msg = f"{home.lake}: no event to fit on; ingest some first: headrace ingest PATH"
        raise BuildError(msg)
    tasks = find_tasks(history, CANDIDATES, MAX_LISTS)
    refresh = min(REFRESH, history.span / MIN_BUILDS)
    replay = Replay(history, ReplaySessions(history, settings), settings, refresh)
    now = settings.clock()
    blend = gated_blend(replay.run(tasks, progress), now)
    save_blend(home.models, blend)
    log.info("blend %s serves as %s: %s", blend.version, blend.kind, blend.gate.reason)
    return blend


def gated_blend(lists: Replayed, now: datetime, groups: Collection[str] = GROUPS) -> Blend:
    """The blend that serves: fitted if it beats the best simple order on the newest part, else that order.

    Args:
        lists: history, in time order.
        now: names the version.
        groups: groups of signals the blend may use.
    """
    version, fitted_at = f"{now:%Y%m%dT%H%M%S%fZ}", now.isoformat()
    lists = with_relevant(lists)
    if len(lists) < MIN_LISTS:
        reason = f"{len(lists)} lists with an engagement; a fit needs {MIN_LISTS}: the base order serves"
        return simple_blend("base", Gate(passed=False, reason=reason), version, fitted_at)
    cut = int(len(lists) * FIT_SHARE)
    fitted_on, held_out = lists.part(0, cut), lists.part(cut, len(lists))
    signal = best_popularity(fitted_on)
    gate = judge(fit(fitted_on, version, groups), signal, held_out, cut)
    if gate.passed:
        return fit(lists, version, groups, gate, fitted_at)
    kept: Literal["base", "popularity"] = "popularity" if gate.baseline == "popularity" else "base"
    return simple_blend(kept, gate, version, fitted_at, signal)


def with_relevant(lists: Replayed) -> Replayed:
    """The lists that have something relevant: others say nothing of an order."""
    starts = lists.offsets[:-1]
    any_relevant = np.add.reduceat(lists.relevant, starts, dtype=np.intp) > 0 if len(starts) else starts > 0
    return lists.keep(np.flatnonzero(any_relevant))


def fit(
    lists: Replayed,
    version: str,
    groups: Collection[str] = GROUPS,
    gate: Gate | None = None,
    fitted_at: str = "",
) -> Blend:
    """Weights of the signals of some groups, fitted on all the lists."""
    columns = [i for i, name in enumerate(lists.names) if group_of(name) in groups]
    names = tuple(lists.names[i] for i in columns)
    values = lists.values[:, columns]
    centred = centred_signals(names)
    scales = scales_of(values, lists.offsets, centred)
    weights = fit_softmax(standardized(values, lists.offsets, centred, scales), lists.relevant, lists.offsets)
    used = scales > 0
    return Blend(
        version=version,
        kind="fitted",
        names=tuple(name for name, keep in zip(names, used, strict=True) if keep),
        scales=tuple(scales[used].tolist()),
        weights=tuple(weights[used].tolist()),
        gate=gate or Gate(passed=False, reason="not judged"),
        fitted_at=fitted_at,
    )


def blend_scores(blend: Blend, lists: Replayed) -> Floats:
    """`Blend.scores` of all lists at once ``(places,)``."""
    own = {name: i for i, name in enumerate(blend.names)}
    columns = [i for i, name in enumerate(lists.names) if name in own]
    at = [own[lists.names[i]] for i in columns]
    names = tuple(lists.names[i] for i in columns)
    scales, weights = np.array(blend.scales)[at], np.array(blend.weights)[at]
    values = standardized(lists.values[:, columns], lists.offsets, centred_signals(names), scales)
    scores: Floats = values @ weights
    return scores


def best_popularity(lists: Replayed) -> str:
    """The popularity signal that orders these lists best."""
    return max((s for s in _POPULARITY if s in lists.names), key=lambda s: float(np.mean(_ndcg_of(s, lists))))


def judge(blend: Blend, signal: str, held_out: Replayed, fitted_lists: int) -> Gate:
    """Compare a fitted blend with the better of base order and popularity on lists it has not seen."""
    simple = {"base": _ndcg_of(BASE, held_out), "popularity": _ndcg_of(signal, held_out)}
    gain = paired_interval(simple["popularity"], simple["base"])
    baseline = "popularity" if gain.above_zero else "base"
    fitted = ndcg(
        positions_of(blend_scores(blend, held_out), held_out.offsets), held_out.relevant, held_out.offsets
    )
    best = max(simple, key=lambda name: float(simple[name].mean()))
    difference = paired_interval(fitted, simple[best])
    passed = difference.above_zero
    return Gate(
        passed=passed,
        reason=_reason(passed, best, baseline, difference),
        baseline=best if passed else baseline,
        lists_fitted=fitted_lists,
        lists_held_out=len(held_out),
        ndcg_base=mean_interval(simple["base"]).mean,
        ndcg_popularity=mean_interval(simple["popularity"]).mean,
        ndcg_fitted=mean_interval(fitted).mean,
        difference=difference.mean,
        low=difference.low,
        high=difference.high,
    )


def _reason(passed: bool, best: str, kept: str, difference: Interval) -> str:
    figures = f"NDCG@10 {difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] against {best}"
    if passed:
        return f"{figures}: the fitted blend serves"
    return f"{figures}: not above zero, {kept} serves"


def _ndcg_of(signal: str, lists: Replayed) -> Floats:
    scores = np.nan_to_num(lists.values[:, lists.names.index(signal)].astype(np.float64))
    return ndcg(positions_of(scores, lists.offsets), lists.relevant, lists.offsets)
