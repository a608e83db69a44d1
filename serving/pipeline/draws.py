"""What is drawn for exploration: who stands where, and with which chance."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Bits, Floats, Ints

_UNUSED = np.uint64(11)
_FEW = 200
"""Numbers that are sorted sooner than parted."""


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
    explores = np.zeros(m, bool)
    explores[numbers[1 : 1 + m].argsort(kind="stable")[:k]] = True
    slots, others = explores.nonzero()[0], (~explores).nonzero()[0]
    if order.min() < 0:
        return order, np.empty(0), slots
    drawn = _smallest(numbers[1 + m :], k)
    stays = np.ones(n - m + k, bool)
    stays[k + drawn] = False
    out = np.empty(n, np.int64)
    out[slots], out[others], out[m:] = order[m + drawn], order[: m - k], order[m - k :][stays]
    chances = np.ones(order.max() + 1)  # 1 of what has no part in it
    chances[order[m:]] = 1.0 - expected / (n - m)
    chances[order[m - k : m]] = behind[m - k :]
    chances[out[slots]] = expected / m / (n - m)
    chances[out[others]] = standing[: m - k].ravel()[np.arange(m - k) * m + others]
    return out, chances, slots


def _smallest(numbers: Floats, most: int) -> Ints:
    """Places of the `most` smallest numbers, smallest first; of equal ones the first."""
    if most == 0 or len(numbers) <= _FEW:
        return numbers.argsort(kind="stable")[:most]
    within = (numbers <= np.partition(numbers, most - 1)[most - 1]).nonzero()[0]
    places: Ints = within[numbers[within].argsort(kind="stable")]
    return places[:most]


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
