"""What is drawn for exploration: who stands where, and with which chance."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Bits, Bools, Floats, Ints
from serving.scoring.compiled import compiled

_UNUSED = np.uint64(11)


def explored(order: Ints, bits: Bits, share: float, kept: tuple[Floats, Floats]) -> tuple[Ints, Floats, Ints]:
    """The order, the propensities by candidate and the slots of `serving.pipeline.exploration.Explored`.

    Args:
        order: ``n`` candidates, best first, more than slots; all at least 0, or no propensities come back.
        bits: uniform, 64 for each number drawn: one for how many slots explore, one for each slot, one for
            each candidate below them ``(1 + n,)``.
        share: of the slots, that explores on average.
        kept: chances of the first ``m`` candidates: of each slot ``(m, m)``, and of none ``(m,)``.
    """
    standing, behind = kept
    n, m = len(order), len(behind)
    expected = share * m
    numbers = (bits >> _UNUSED) * np.float64(2.0**-53)  # the upper 53 of 64 bits, as many as a float holds
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
    """Fill order, slots and propensities; False where the order holds a negative number.

    Args:
        propensities: ones, which they stay for candidates that take no part.
        room: for the slots that explore and the places drawn, ``m`` at least.
        gone: false, by place.
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
    """Fill the places, from `start`, of the smallest numbers, smallest first; of equal ones the first."""
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
    """Of the item of each rank above ``m``: its chance of each slot ``(m, m)``, and of none ``(m,)``.

    Where ``k`` of ``m`` slots explore, the item of a rank stands in a slot if exactly ``slot − rank`` of the
    slots before it explore, and its own does not: of ``C(m, k)`` ways
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
