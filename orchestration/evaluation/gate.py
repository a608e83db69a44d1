"""The do-no-harm gate: whether a fitted blend serves, or a simple ranker."""

from __future__ import annotations

from collections import Counter

import numpy as np

from feature_repo.arrays import Bools, Floats
from orchestration.evaluation.blend_scores import ndcg_of
from orchestration.evaluation.history_replay import Replayed
from quality.ranking.metrics import Interval, paired_interval
from serving.scoring.blend import Gate
from serving.scoring.ranker import Ranker
from serving.scoring.rankers import all_rankers
from serving.scoring.signal_groups import BASE

MIN_SLICE = 100
"""Lists of a guarded slice below which it says too little."""
TOLERANCE = 0.005
"""A slice counts as worse if its whole interval is below zero, and its mean below minus that."""

LATELY = 0.25
"""Share of the 95 % interval's width that makes one standard error."""
SHORT = 3
"""Touched items up to which a session counts as short."""
MOST_SEGMENTS = 10
"""Segments that are guarded: those with most lists."""


def rankers_of(names: tuple[str, ...]) -> dict[str, Ranker]:
    """The simple rankers that some columns allow."""
    return {name: ranker for name, ranker in all_rankers().items() if ranker.columns(names)}


def best_ranker(lists: Replayed) -> str:
    """The simple ranker that orders these lists best; of equals the first."""
    rankers = rankers_of(lists.names)
    found = {name: float(ndcg_of(rankers[name].blend(lists.names), lists).mean()) for name in rankers}
    return max(found, key=found.__getitem__)


def judge(fitted: Floats, chosen: str, held_out: Replayed, newest: int, fitted_lists: int) -> Gate:
    """Compare fitted weights with the simple rankers on lists that they have not seen.

    They pass if their paired interval against the better of the chosen ranker and the base order is above
    zero; if their mean on the newest lists is above zero by a standard error, so that a gain of the past does
    not count; if no other ranker is better on average; and if they are not worse on any guarded slice.

    Args:
        fitted: NDCG of the fitted weights on each list.
        chosen: the best ranker on the older part.
        newest: how many of the lists, the last, count as newest.
        fitted_lists: lists that the weights were fitted on first.
    """
    rankers = rankers_of(held_out.names)
    scores = {name: ndcg_of(ranker.blend(held_out.names), held_out) for name, ranker in rankers.items()}
    kept = chosen if paired_interval(scores[chosen], scores[BASE]).above_zero else BASE
    means = {name: float(values.mean()) for name, values in scores.items()}
    rival = max((chosen, BASE), key=means.__getitem__)
    difference = paired_interval(fitted, scores[rival])
    slices = {
        name: (int(member.sum()), *bounds(paired_interval(fitted[member], scores[rival][member])))
        for name, member in slices_of(held_out).items()
        if member.sum() >= MIN_SLICE
    }
    worse = [name for name, (_, mean, _, high) in slices.items() if high < 0.0 and mean < -TOLERANCE]
    better = max(means, key=means.__getitem__)
    late = slice(len(fitted) - newest, None)
    lately = paired_interval(fitted[late], scores[rival][late])
    holds = lately.mean > (lately.high - lately.low) * LATELY
    passed = difference.above_zero and holds and not worse and means[better] <= float(fitted.mean())
    low, high = difference.low, difference.high
    figures = f"NDCG@10 {difference.mean:+.4f} [{low:+.4f}, {high:+.4f}] against {rival}"
    if passed:
        reason = f"{figures}: the fitted blend serves"
    elif not difference.above_zero:
        reason = f"{figures}: not above zero, {kept} serves"
    elif not holds:
        said = f"{lately.mean:+.4f} ± {lately.high - lately.mean:.4f} on the newest lists"
        reason = f"{figures}, but {said}: {kept} serves"
    elif worse:
        reason = f"{figures}, but worse on {', '.join(worse)}: {kept} serves"
    else:
        reason = f"{figures}, but {better} is better still there: {kept} serves"
    return Gate(
        passed=passed,
        reason=reason,
        baseline=rival if passed else kept,
        lists_fitted=fitted_lists,
        lists_held_out=len(held_out),
        ndcg_base=means[BASE],
        ndcg_fitted=float(fitted.mean()),
        difference=difference.mean,
        low=low,
        high=high,
        rankers=means,
        slices=slices,
    )


def slices_of(lists: Replayed) -> dict[str, Bools]:
    """The guarded slices, each with the lists that it holds, as far as the signals tell them apart."""
    starts = lists.offsets[:-1]

    def any_of(places: Bools) -> Bools:
        return np.logical_or.reduceat(places, starts) if len(starts) else np.zeros(0, bool)

    def columns(prefix: str) -> Floats:
        chosen = [i for i, name in enumerate(lists.names) if name == prefix or name.startswith(f"{prefix}:")]
        return lists.values[:, chosen].astype(np.float64)

    touched = any_of(np.any(columns("touched") > 0, axis=1))
    taste = np.hstack([columns("log_odds"), columns("distance")])
    warm = any_of(np.logical_not(np.all(np.isnan(taste), axis=1)))
    clicked = np.any(columns("log_clicks") > 0, axis=1)
    cold_item = any_of(lists.relevant & np.logical_not(clicked))
    length = lists.askers.touched
    segments = np.array(lists.askers.segments, dtype=object)
    largest = [name for name, _ in Counter(lists.askers.segments).most_common(MOST_SEGMENTS)]
    return {
        "lists with a touched item": touched,
        "lists without a touched item": ~touched,
        "warm users": warm,
        "cold users": ~warm,
        "cold items": cold_item,
        "sessions that touched nothing yet": length == 0,
        f"sessions with 1 to {SHORT} touched items": (length > 0) & (length <= SHORT),
        f"sessions with more than {SHORT} touched items": length > SHORT,
        **{f"segment {name}": segments == name for name in largest if len(set(largest)) > 1},
    }


def bounds(interval: Interval) -> tuple[float, float, float]:
    """Mean, low and high."""
    return interval.mean, interval.low, interval.high
