"""Orders of candidates: sorting, checking, and what a new order makes of scores.

The kernels check every index they are handed, since machine code does not: where something is not as it
should be they say so, and the plain formula, which knows how to fail, takes over.
"""

from __future__ import annotations

import math

import numpy as np

from serving.attributes import Bools, Floats, Ints
from serving.compiled import compiled

SORTED, MISSING, HARD = 0, 1, 2
_PATIENCE = 16
"""Steps of the finishing sort per candidate before `falling` leaves it to numpy."""


def indices(order: Ints) -> Ints:
    """The same, as the one kind of array that loops are compiled for; no copy where it is that already."""
    return np.ascontiguousarray(order, np.int64)


def floats(values: Floats) -> Floats:
    """The same, as the one kind of array that loops are compiled for; no copy where it is that already."""
    return np.ascontiguousarray(values, np.float64)


def falling(values: Floats) -> Ints:
    """Places of the largest value first; equal values stay as they stand.

    ``argsort(-values, kind="stable")``, in a third of its time where values are spread.
    """
    done, order, _, _ = sort_falling(floats(values))
    return order if done == SORTED else (-values).argsort(kind="stable")


@compiled
def sort_falling(values: Floats) -> tuple[int, Ints, Ints, Floats]:
    """Sort, largest first and stable, and scale to ``[0, 1]``.

    Values are dealt into buckets by size, then each is moved past the larger ones before it. Equal values
    throughout get evenly falling units.

    Returns:
        ``SORTED``, or what kept it from being done: ``MISSING`` for a nan, ``HARD`` for an infinite value or
        a spread so uneven that most fall into one bucket; the rest is then of no use. Then the order, its
        inverse and the values scaled ``(n,)``.
    """
    n = len(values)
    order, positions, unit = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n)
    low, high, finite = np.inf, -np.inf, True
    for i in range(n):
        if math.isnan(values[i]):
            return 1, order, positions, unit
        finite = finite and math.isfinite(values[i])
        low, high = min(low, values[i]), max(high, values[i])
    spread = high / 2 - low / 2  # that of finite values may overflow, that of their halves does not
    if finite and spread > 0.0:
        _deal(values, low, spread, (order, positions, unit))
    else:
        for i in range(n):
            order[i], unit[i] = i, 1.0 - i / max(n - 1, 1)
    if not finite or not _settle(values, order):
        return 2, order, positions, unit
    for i in range(n):
        positions[order[i]] = i
    return 0, order, positions, unit


@compiled
def _deal(values: Floats, low: float, spread: float, out: tuple[Ints, Ints, Floats]) -> None:
    """Fill the units, and the order by buckets of them; what falls into one bucket as it stands."""
    order, bucket_of, unit = out
    n = len(values)
    buckets = 2 * n
    ends = np.zeros(buckets + 1, np.int64)
    for i in range(n):
        unit[i] = (values[i] / 2 - low / 2) / spread + 0.0  # never -0.0
        bucket_of[i] = int((1.0 - unit[i]) * (buckets - 1))
        ends[bucket_of[i] + 1] += 1
    for bucket in range(buckets):
        ends[bucket + 1] += ends[bucket]
    for i in range(n):
        order[ends[bucket_of[i]]] = i
        ends[bucket_of[i]] += 1


@compiled
def _settle(values: Floats, order: Ints) -> bool:
    """Insertion sort of an order that is nearly sorted; False where it would take too long."""
    steps = _PATIENCE * len(order)
    for i in range(1, len(order)):
        moving, place = order[i], i
        while place > 0 and values[order[place - 1]] < values[moving]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = moving
        steps -= i - place
        if steps < 0:
            return False
    return True


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
    for candidate in order:
        if not 0 <= candidate < len(seen) or seen[candidate]:
            return False
        seen[candidate] = True
    finite = True
    for score in scores:
        finite = finite and math.isfinite(score)
    return finite
