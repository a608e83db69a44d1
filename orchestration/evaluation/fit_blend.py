"""Fits the blend on history and lets the do-no-harm gate decide whether it serves."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
from msgspec.structs import replace

from feature_repo.arrays import Bools, Ints
from feature_repo.errors import BuildError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.evaluation.blend_scores import ndcg_of
from orchestration.evaluation.gate import best_ranker, judge
from orchestration.evaluation.history import Progress, lake_history, silent
from orchestration.evaluation.history_replay import Replay, Replayed
from orchestration.evaluation.listwise_softmax import fit_softmax, scales_of, standardized
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from quality.ranking.metrics import paired_interval
from serving.scoring.blend import Blend, Gate, centred_signals, save_blend
from serving.scoring.rankers import all_rankers
from serving.scoring.signal_groups import BASE, GROUPS
from serving.scoring.signals import group_of

log = logging.getLogger(__name__)

MIN_LISTS = 300
"""With fewer lists that have something relevant, no blend is fitted, because it can lose to a simple rule."""
FIT_SHARES = (0.6, 0.8)
"""Shares of history, oldest first, to fit on for the gate; the lists up to the next share, or the end, judge.

On two thousand lists both parts together see a gain of 0.02; one of them misses it too often."""
_OLDER = 0.8
"""Share of the older part that `newest_share` fits on."""
MAX_EVENTS = 300_000
"""Number of events to read, from the newest days."""
MAX_LISTS = 6_000
"""Lists replayed, sampled by hash: more would not change forty weights, but slow down every build."""
REFRESH = timedelta(hours=1)
"""Interval of scheduled batch builds; the replay freezes batch features as long, as serving does."""
MIN_BUILDS = 100
"""A history shorter than this many builds is replayed with a shorter build interval."""
CANDIDATES = PopularCandidates(100, timedelta(hours=1))
MOST_OF_SESSION = 20
"""Lists of one session that count."""
MOST_OF_USER = 200
"""Lists of one user that count."""
SHARES = (1.0, 0.75, 0.5, 0.35, 0.25)
"""Shares of history, the newest, that weights may be fitted on."""


def fit_blend(settings: Settings, home: Home, progress: Progress = silent) -> Blend:
    """Fit on the lake and save the blend; running servers pick it up.

    Raises:
        BuildError: the lake has no event, or the models folder cannot be written.
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
    log.info("blend %s serves as %s: %s", blend.version, blend.ranker or blend.kind, blend.gate.reason)
    return blend


def gated_blend(lists: Replayed, now: datetime, groups: Collection[str] = GROUPS) -> Blend:
    """The blend that serves: fitted if it beats the best simple ranker on the newest part, else that ranker.

    The best ranker is chosen on the older part. It serves only if it beats the base order on the newest part,
    by the same test.

    Args:
        lists: history, in time order.
        now: time that names the version.
        groups: groups of signals the blend may use.
    """
    version, fitted_at = f"{now:%Y%m%dT%H%M%S%fZ}", now.isoformat()
    lists = capped(with_relevant(lists))
    if len(lists) < MIN_LISTS:
        reason = (
            f"{len(lists)} lists with an engagement; a fit needs {MIN_LISTS}, "
            f"{MIN_LISTS - len(lists)} more: the base order serves"
        )
        gate = Gate(passed=False, reason=reason)
        return replace(all_rankers()[BASE].blend(lists.names, version, gate), fitted_at=fitted_at)
    cuts = [int(len(lists) * share) for share in FIT_SHARES] + [len(lists)]
    fitted, share = [], 1.0
    for cut, end in pairwise(cuts):
        older = lists.part(0, cut)
        share = newest_share(older, version, groups)
        fitted.append(ndcg_of(fit(newest_part(older, share), version, groups), lists.part(cut, end)))
    best, held_out = best_ranker(lists.part(0, cuts[0])), lists.part(cuts[0], len(lists))
    gate = judge(np.concatenate(fitted), best, held_out, len(fitted[-1]), cuts[0])
    if gate.passed:
        return fit(newest_part(lists, share), version, groups, gate, fitted_at)
    return replace(all_rankers()[gate.baseline].blend(lists.names, version, gate), fitted_at=fitted_at)


def newest_share(lists: Replayed, version: str, groups: Collection[str] = GROUPS) -> float:
    """The share of history, the newest, to fit weights on: all of it, unless less is surely better.

    A share is better if the paired interval of its gain over all of history, on the newest fifth, is above
    zero. Where items live for hours, old lists teach weights that no longer hold.
    """
    cut = int(len(lists) * _OLDER)
    past, judged = lists.part(0, cut), lists.part(cut, len(lists))
    found = {
        share: ndcg_of(fit(newest_part(past, share), version, groups), judged)
        for share in SHARES
        if share == 1.0 or len(past) * share >= MIN_LISTS
    }
    better = [share for share in found if paired_interval(found[share], found[1.0]).above_zero]
    return max(better, key=lambda share: float(found[share].mean()), default=1.0)


def newest_part(lists: Replayed, share: float) -> Replayed:
    """The newest share of lists."""
    return lists.part(len(lists) - int(len(lists) * share), len(lists))


def with_relevant(lists: Replayed) -> Replayed:
    """Keep the lists with something relevant; the others do not discriminate between orders."""
    starts = lists.offsets[:-1]
    any_relevant = np.add.reduceat(lists.relevant, starts, dtype=np.intp) > 0 if len(starts) else starts > 0
    return lists.keep(np.flatnonzero(any_relevant))


def capped(lists: Replayed) -> Replayed:
    """Keep at most `MOST_OF_SESSION` lists of a session and `MOST_OF_USER` of a user, spread over their time.

    A robot that asks five thousand times would otherwise teach the weights, and judge them.
    """
    kept = np.arange(len(lists))
    for units, most in ((lists.askers.sessions, MOST_OF_SESSION), (lists.askers.users, MOST_OF_USER)):
        kept = kept[_spread(units[kept], most)]
    return lists.keep(kept) if len(kept) < len(lists) else lists


def _spread(units: Ints, most: int) -> Bools:
    """Mark `most` members of each unit, the first of each of as many equal stretches; all of unit -1."""
    order = np.argsort(units, kind="stable")
    ascending = units[order]
    firsts = np.searchsorted(ascending, ascending)
    counts = np.searchsorted(ascending, ascending, "right") - firsts
    places = np.arange(len(units)) - firsts
    marked = np.zeros(len(units), bool)
    marked[order] = (ascending < 0) | (places * most // counts != (places - 1) * most // counts)
    return marked


def fit(
    lists: Replayed,
    version: str,
    groups: Collection[str] = GROUPS,
    gate: Gate | None = None,
    fitted_at: str = "",
) -> Blend:
    """Fit the weights of the signals of some groups on all lists."""
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
