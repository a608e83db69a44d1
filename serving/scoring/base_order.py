"""The order of a request without personalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

import numpy as np
from msgspec import Struct

from feature_repo.arrays import Floats, Ints
from serving.schemas.rank_request import Candidate
from serving.scoring.ordering import falling

_score = attrgetter("score")


class BaseOrder(Struct, frozen=True, eq=False):
    """The caller's ranking of the candidates, indexed as given.

    Attributes:
        scores: float64[n] within ``[0, 1]``; from the given order if a score is missing.
        order: int[n], candidate indices, best first; ties keep the given order.
        positions: int[n], position of each candidate in `order`, from 0.
        given: whether `order` is the given order because a score is missing.
    """

    scores: Floats
    order: Ints
    positions: Ints
    given: bool = False


def base_scores(scores: Sequence[float | None]) -> Floats:
    """Scale scores to ``[0, 1]``. If one is missing or all are equal, use the given order."""
    return _falling(len(scores)) if None in scores else unit_scores(np.asarray(scores, np.float64))


def unit_scores(scores: Floats) -> Floats:
    """Scale scores to ``[0, 1]``; none may be missing. If all are equal, use the given order."""
    if not len(scores):
        return scores
    half = scores / 2  # the spread of finite scores may overflow; that of their halves does not
    half -= half.min()
    spread = half.max()
    return half / spread if spread > 0 else _falling(len(scores))


def _falling(n: int) -> Floats:
    falling: Floats = 1.0 - np.arange(n) / max(n - 1, 1)
    return falling


def base_order(candidates: Sequence[Candidate]) -> BaseOrder:
    """Order candidates by the caller's scores, or as given if a score is missing."""
    scores = _given(candidates)
    places = np.arange(len(scores))
    # Sort by the original scores: scaling may round small differences away.
    order = falling(scores)
    if len(order) and math.isnan(scores[order[-1]]):
        return BaseOrder(base_scores([None] * len(scores)), places, places, given=True)
    positions = np.empty(len(scores), np.intp)
    positions[order] = places
    return BaseOrder(_unit(scores, order), order, positions)


def _unit(scores: Floats, order: Ints) -> Floats:
    """`unit_scores`, with the extremes taken from the ends of the order."""
    if len(order):
        low, high = float(scores[order[-1]]) / 2, float(scores[order[0]]) / 2
        if 0.0 < high - low < math.inf:
            return (scores / 2 - low) / (high - low) + 0.0  # never -0.0
    return unit_scores(scores) + 0.0


def _given(candidates: Sequence[Candidate]) -> Floats:
    """Return the given scores, with nan for missing ones."""
    try:
        return np.fromiter(map(_score, candidates), np.float64, len(candidates))
    except TypeError:  # a score is None
        return np.array([candidate.score for candidate in candidates], np.float64)
