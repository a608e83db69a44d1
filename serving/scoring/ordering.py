"""Orders of candidates: sorting, checking, and what a new order makes of scores."""

from __future__ import annotations

import math

import numpy as np

from feature_repo.arrays import Bools, Floats, Ints
from serving.scoring.compiled import compiled


def indices(order: Ints) -> Ints:
    """The same, as the one kind of array that loops are compiled for; no copy where it is that already."""
    return np.ascontiguousarray(order, np.int64)


def floats(values: Floats) -> Floats:
    """The same, as the one kind of array that loops are compiled for; no copy where it is that already."""
    return np.ascontiguousarray(values, np.float64)


def falling(values: Floats) -> Ints:
    """Places of the largest value first; equal values keep their order, nan comes last.

    A stable sort takes four times as long, so it is left to values of which some are equal or nan.
    """
    keys = -values
    order = keys.argsort()
    ordered = keys[order]
    return order if (ordered[1:] > ordered[:-1]).all() else keys.argsort(kind="stable")


def rescored(after: Ints, scores: Floats) -> tuple[Floats, Floats]:
    """Scores once candidates stand in another order, and what that adds to each, both float64[n].

    The scores of the candidates in the order fall along it; the others keep theirs.

    Args:
        after: candidate indices, best first.
        scores: by candidate.
    """
    moved = scores.copy()
    moved[after] = np.sort(scores[after])[::-1]
    return moved, moved - scores


def is_whole(order: Ints, scores: Floats, count: int) -> bool:
    """Whether an order holds no candidate twice and none but ``0 … count − 1``, and all scores are finite."""
    return _is_whole(indices(order), floats(scores), np.zeros(count, np.bool_))


@compiled
def _is_whole(order: Ints, scores: Floats, seen: Bools) -> bool:
    """The same; it checks every index, since machine code does not."""
    for place in range(len(order)):
        candidate = order[place]
        if not 0 <= candidate < len(seen) or seen[candidate]:
            return False
        seen[candidate] = True
    finite = True
    for place in range(len(scores)):
        finite = finite and math.isfinite(scores[place])
    return finite
