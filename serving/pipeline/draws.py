"""Random draws of exploration, and their probabilities."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Bits, Bools, Floats, Ints
from serving.scoring.compiled import compiled

_UNUSED = np.uint64(11)


def explored(order: Ints, bits: Bits, share: float, kept: tuple[Floats, Floats]) -> tuple[Ints, Floats, Ints]:
    """Compute the order, propensities and slots of `serving.pipeline.exploration.Explored`.

    Args:
        order: ``n`` candidates, best first, more than slots. If one is negative, propensities are empty.
        bits: ``(1 + n,)`` uniform 64-bit numbers: one for the number of exploring slots, one per slot, one
            per candidate below them.
        share: mean share of the slots that explore.
        kept: the result of `chances`.
    """
    standing, behind = kept
    n, m = len(order), len(behind)
    expected = share * m
    numbers = (bits >> _UNUSED) * np.float64(2.0**-53)  # the upper 53 bits, the precision of a float
    k = int(expected) + (1 if numbers[0] < expected - int(expected) else 0)
    whole, gone = np.zeros(n + m + 2 * k, np.int64), np.zeros(n, np.bool_)
    out, slots = whole[:n], whole[n : n + k]
    propensities = np.ones(n if (most := int(order.max())) < n else most + 1)
    if _explore(out, slots, propensities, whole[n + k :], gone, order, numbers, expected, standing, behind):
        return out, propensities, slots
    return order, np.empty(0), slots


@compiled
def _explore(
    out: Ints,
    slots: Ints,
    propensities: Floats,
    room: Ints,
    gone: Bools,
    order: Ints,
    numbers: Floats,
    expected: float,
    standing: Floats,
    behind: Floats,
) -> bool:
    """Fill order, slots and propensities; return False if the order holds a negative number.

    Args:
        propensities: ones; candidates that take no part keep theirs.
        room: scratch space of at least ``m``, for exploring slots and drawn positions.
        gone: False, by position.
    """
    n, m, k = len(order), len(behind), len(slots)
    drawn, explores = room[:k], gone[:m]
    _smallest(drawn, numbers, 1, 1 + m)
    for i in range(k):
        explores[drawn[i]] = True
    _smallest(drawn, numbers, 1 + m, 1 + n)
    for place in range(n):
        if order[place] < 0:
            return False
        propensities[order[place]] = 1.0 - expected / (n - m)
    rank = taken = 0
    for slot in range(m):
        if explores[slot]:
            out[slot], slots[taken] = order[m + drawn[taken]], slot
            propensities[out[slot]] = expected / m / (n - m)
            taken += 1
        else:
            out[slot] = order[rank]
            propensities[out[slot]] = standing[rank, slot]
            rank += 1
    for i in range(k):
        gone[m + drawn[i]] = True
        propensities[order[m - k + i]] = behind[m - k + i]
    at = m
    for place in range(m - k, n):
        if place < m or not gone[place]:
            out[at] = order[place]
            at += 1
    return True


@compiled
def _smallest(places: Ints, numbers: Floats, start: int, stop: int) -> None:
    """Fill the places, relative to `start`, of the smallest numbers in order; ties go to the first."""
    held = 0
    for i in range(start, stop):
        at = held
        while at > 0 and numbers[start + places[at - 1]] > numbers[i]:
            at -= 1
        if at == len(places):
            continue
        held = min(held + 1, len(places))
        for after in range(held - 1, at, -1):
            places[after] = places[after - 1]
        places[at] = i - start


def chances(m: int, share: float) -> tuple[Floats, Floats]:
    """Return the probability that the item of each rank gets each slot ``(m, m)``, and none ``(m,)``.

    If ``k`` of ``m`` slots explore, the item of a rank gets a slot if exactly ``before = slot − rank`` of the
    slots before it explore and its own does not. Of the ``C(m, k)`` choices this holds for
    ``C(slot, before) · C(m − 1 − slot, k − before)``. Not compiled: it is called once per window.
    """
    ways = np.zeros((m + 1, m + 1))
    ways[:, 0] = 1.0
    for n in range(1, m + 1):
        ways[n, 1:] = ways[n - 1, :-1] + ways[n - 1, 1:]
    standing, behind = np.zeros((m, m)), np.zeros(m)
    expected = share * m
    for k in range(int(expected), min(int(expected) + 2, m + 1)):
        chance = 1.0 - abs(expected - k)
        behind[m - k :] += chance
        for before in range(k + 1):
            slots = np.arange(before, m - k + before)
            of = ways[slots, before] * ways[m - 1 - slots, k - before]
            standing[slots - before, slots] += chance * of / ways[m, k]
    return standing, behind
