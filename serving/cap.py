"""Bounds how far personalization may move an item from where its base score puts it.

Each item has a window of positions around its base position. Sorting by the wanted position cut to *half* the
window keeps every item inside the *whole* window: only items whose own half window begins at ``i + P/2`` or
earlier can come before it, and those are at most ``i + P``. The same holds for windows of equal base score
distance, and for the intersection of both. Exact, and one sort: of half positions, so by counting.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from serving.base import BaseOrder, Floats, Ints
from serving.compiled import Plain, compiled
from serving.flags import Cap
from serving.order import indices

_NO_SHARE = -1.0
_NOT_ALL = "order: not a permutation of the candidates"


def capped(order: Ints, base: BaseOrder, cap: Cap) -> Ints:
    """The order, with every item inside its window; the very same array where nothing moves.

    Args:
        order: candidate indices, best first; a permutation.
        base: base positions and scores.
        cap: `positions` bounds ``|position − base position|``; `share` bounds the distance between the base
            score of an item and that of the item whose base position it takes, as a share of their spread.

    Raises:
        IndexError: `order` is no permutation.
    """
    n = len(order)
    free = cap.positions is None or cap.positions >= 2 * (n - 1)
    if n == 0 or (free and cap.share is None):
        return order  # every half window holds all places
    out = np.empty(n, np.intp)
    if len(base.order) != n:
        raise IndexError(_NOT_ALL)
    reach = 2 * n if cap.positions is None else cap.positions
    share = _NO_SHARE if cap.share is None else float(cap.share)
    moved = _cut_and_sorted(indices(order), (base.order, base.positions, base.scores), reach, share, out)
    if moved < 0:
        raise IndexError(_NOT_ALL)
    return out if moved else order


class _Base(NamedTuple):
    """The arrays of a `BaseOrder`."""

    order: Ints
    positions: Ints
    scores: Floats


@compiled
def _cut_and_sorted(order: Ints, of_base: Plain, reach: int, share: float, out: Ints) -> int:
    """Fill `out`. Places count double, for halves of them are met.

    Returns:
        how many candidates were moved, -1 where `order` holds what is no candidate.
    """
    n, base = len(order), _Base(*of_base)
    low, high = np.empty(n, np.int64), np.empty(n, np.int64)
    for place in range(n):
        low[place], high[place] = max(0, 2 * place - reach), min(2 * (n - 1), 2 * place + reach)
    if share >= 0.0:
        _within(base, share, low, high)
    ends, cut, moved = np.zeros(2 * n, np.int64), np.empty(n, np.int64), 0
    for place in range(n):
        if not 0 <= order[place] < n:
            return -1
        home = base.positions[order[place]]
        cut[place] = min(max(2 * place, low[home]), high[home])
        ends[cut[place] + 1] += 1
    for half in range(1, 2 * n):
        ends[half] += ends[half - 1]
    for place in range(n):
        out[ends[cut[place]]] = order[place]
        moved += ends[cut[place]] != place
        ends[cut[place]] += 1
    return moved


@compiled
def _within(base: _Base, share: float, low: Ints, high: Ints) -> None:
    """Narrow windows of base places to those whose score lies within half the share of the spread."""
    n, order, scores = len(base.order), base.order, base.scores
    half = share * (scores[order[0]] - scores[order[n - 1]]) / 2
    first = last = 0
    for place in range(n):
        score = scores[order[place]]
        while first < place and scores[order[first]] > score + half:
            first += 1
        last = max(last, place)
        while last + 1 < n and scores[order[last + 1]] >= score - half:
            last += 1
        low[place], high[place] = max(low[place], 2 * first), min(high[place], 2 * last)
