"""What is drawn for exploration, as machine code: who stands where, and with which chance."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from serving.attributes import Bools, Floats, Ints
from serving.compiled import compiled

Bits: TypeAlias = npt.NDArray[np.uint64]


@compiled
def _uniform(bits: Bits) -> Floats:
    """Numbers in ``[0, 1)``: the upper 53 of 64 bits, as many as a float holds."""
    numbers = np.empty(len(bits))
    for i in range(len(bits)):
        numbers[i] = (bits[i] >> np.uint64(11)) * 2.0**-53
    return numbers


@compiled
def _smallest(numbers: Floats, most: int) -> Ints:
    """Places of the `most` smallest numbers, smallest first."""
    least, places, held = np.empty(most), np.empty(most, np.int64), 0
    for i in range(len(numbers)):
        value = numbers[i]
        if held == most and (most == 0 or value >= least[most - 1]):
            continue
        at = held if held < most else most - 1
        held = min(held + 1, most)
        while at > 0 and least[at - 1] > value:
            least[at], places[at] = least[at - 1], places[at - 1]
            at -= 1
        least[at], places[at] = value, i
    return places[:held]


@compiled
def explored(order: Ints, bits: Bits, share: float, kept: tuple[Floats, Floats]) -> tuple[Ints, Floats, Ints]:
    """The order, the propensities by candidate and the slots of `serving.exploration.Explored`.

    Args:
        order: ``n`` candidates, best first, more than slots; all at least 0, or no propensities come back.
        bits: uniform, 64 for each number drawn: one for how many slots explore, one for each slot, one for
            each candidate below them ``(1 + n,)``.
        share: of the slots, that explores on average.
        kept: chances of the first ``m`` candidates: of each slot ``(m, m)``, and of none ``(m,)``.
    """
    numbers, (standing, behind) = _uniform(bits), kept
    n, m = len(order), len(behind)
    expected = share * m
    k = int(expected) + (1 if numbers[0] < expected - int(expected) else 0)
    explores = np.zeros(m, np.bool_)
    for slot in _smallest(numbers[1 : 1 + m], k):
        explores[slot] = True
    drawn = _smallest(numbers[1 + m :], k)
    out, slots, chances = np.empty(n, np.int64), np.empty(k, np.int64), np.empty(_room(order))
    if len(chances) == 0:
        return out, chances, slots
    _stand(order, explores, drawn, out, slots)
    for candidate in range(len(chances)):
        chances[candidate] = 1.0  # of what has no part in it
    for place in range(m, n):
        chances[order[place]] = 1.0 - expected / (n - m)
    for rank in range(m - k, m):
        chances[order[rank]] = behind[rank]
    rank = 0
    for slot in range(m):
        if explores[slot]:
            chances[out[slot]] = expected / m / (n - m)
        else:
            chances[out[slot]] = standing[rank, slot]
            rank += 1
    return out, chances, slots


@compiled
def _room(order: Ints) -> int:
    """One more than the largest number; 0 where one is negative."""
    most = 0
    for candidate in order:
        if candidate < 0:
            return 0
        most = max(most, candidate + 1)
    return most


@compiled
def _stand(order: Ints, explores: Bools, drawn: Ints, out: Ints, slots: Ints) -> None:
    """Who stands where: fills `out` and `slots`."""
    m, k = len(explores), len(drawn)
    rank = taken = 0
    for slot in range(m):
        if explores[slot]:
            out[slot], slots[taken] = order[m + drawn[taken]], slot
            taken += 1
        else:
            out[slot] = order[rank]
            rank += 1
    gone = np.zeros(len(order), np.bool_)
    for place in drawn:
        gone[m + place] = True
    at = m
    for place in range(m - k, len(order)):
        if not gone[place]:
            out[at] = order[place]
            at += 1


@compiled
def chances(m: int, share: float) -> tuple[Floats, Floats]:
    """Of the item of each rank above ``m``: its chance of each slot ``(m, m)``, and of none ``(m,)``.

    Where ``k`` of ``m`` slots explore, the item of a rank stands in a slot if exactly ``slot − rank`` of the
    slots before it explore, and its own does not: of ``C(m, k)`` ways
    ``C(slot, before) · C(m − 1 − slot, k − before)``.
    """
    ways = np.zeros((m + 1, m + 1))
    for n in range(m + 1):
        ways[n, 0] = 1.0
        for k in range(1, n + 1):
            ways[n, k] = ways[n - 1, k - 1] + ways[n - 1, k]
    standing, behind = np.zeros((m, m)), np.zeros(m)
    expected = share * m
    for k in range(int(expected), min(int(expected) + 2, m + 1)):
        chance = 1.0 - abs(expected - k)
        for rank in range(m):
            if rank >= m - k:
                behind[rank] += chance
            for slot in range(rank, min(m, rank + k + 1)):
                before = slot - rank
                if k - before < m - slot:
                    of = ways[slot, before] * ways[m - 1 - slot, k - before]
                    standing[rank, slot] += chance * of / ways[m, k]
    return standing, behind
