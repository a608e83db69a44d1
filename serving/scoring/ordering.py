"""Orders of candidates: sorting, checking and rescoring."""

from __future__ import annotations

import math

import numpy as np

from feature_repo.arrays import Bools, Floats, Ints
from serving.scoring.compiled import compiled


def indices(order: Ints) -> Ints:
    """Convert to contiguous int64, the only type that loops are compiled for. Copies only if needed."""
    return np.ascontiguousarray(order, np.int64)


def floats(values: Floats) -> Floats:
    """Convert to contiguous float64, the only type that loops are compiled for. Copies only if needed."""
    return np.ascontiguousarray(values, np.float64)


def falling(values: Floats) -> Ints:
    """Return the indices that sort values in descending order. Ties keep their order; nan comes last.

    A stable sort takes four times as long, so it is used only if some values are equal or nan.
    """
    keys = -values
    order = keys.argsort()
    ordered = keys[order]
    return order if (ordered[1:] > ordered[:-1]).all() else keys.argsort(kind="stable")


def rescored(after: Ints, scores: Floats) -> tuple[Floats, Floats]:
    """Reassign scores to a new order; return the new scores and their changes, both float64[n].

    The scores of the candidates in `after` are sorted along it; the other candidates keep theirs.

    Args:
        after: candidate indices, best first.
        scores: by candidate.
    """
    moved = scores.copy()
    moved[after] = np.sort(scores[after])[::-1]
    return moved, moved - scores


def is_whole(order: Ints, scores: Floats, count: int) -> bool:
    """Whether an order holds distinct candidates within ``0 … count − 1``, and all scores are finite."""
    return _is_whole(indices(order), floats(scores), np.zeros(count, np.bool_))


@compiled
def _is_whole(order: Ints, scores: Floats, seen: Bools) -> bool:
    """Compiled part of `is_whole`. It checks every index itself, because machine code does not."""
    for place in range(len(order)):
        candidate = order[place]
        if not 0 <= candidate < len(seen) or seen[candidate]:
            return False
        seen[candidate] = True
    finite = True
    for place in range(len(scores)):
        finite = finite and math.isfinite(scores[place])
    return finite
