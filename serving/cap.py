"""Bounds how far personalization may move an item from where its base score puts it.

Each item has a window of positions around its base position. Sorting by the wanted position cut to *half* the
window keeps every item inside the *whole* window: only items whose own half window begins at ``i + P/2`` or
earlier can come before it, and those are at most ``i + P``. The same holds for windows of equal base score
distance, and for the intersection of both. Exact, and one sort.
"""

from __future__ import annotations

import numpy as np

from serving.base import BaseOrder, Floats, Ints
from serving.flags import Cap


def capped(order: Ints, base: BaseOrder, cap: Cap) -> Ints:
    """The order, with every item inside its window.

    Args:
        order: candidate indices, best first; a permutation.
        base: base positions and scores.
        cap: `positions` bounds ``|position − base position|``; `share` bounds the distance between the base
            score of an item and that of the item whose base position it takes, as a share of their spread.
    """
    n = len(order)
    free = cap.positions is None or cap.positions >= 2 * (n - 1)
    if n == 0 or (free and cap.share is None):
        return order  # every half window holds all places
    base_positions = base.positions[order]
    low, high = _half_windows(base, cap)
    wanted = np.arange(n, dtype=np.float64)
    cut = np.minimum(np.maximum(wanted, low[base_positions]), high[base_positions])
    return order if (cut == wanted).all() else order[cut.argsort(kind="stable")]


def _half_windows(base: BaseOrder, cap: Cap) -> tuple[Floats, Floats]:
    """First and last position of the half window of each base position."""
    n = len(base.order)
    place = np.arange(n, dtype=np.float64)
    low, high = np.zeros(n), np.full(n, n - 1.0)
    if cap.positions is not None:
        low = np.maximum(low, place - cap.positions / 2)
        high = np.minimum(high, place + cap.positions / 2)
    if cap.share is not None:
        falling = base.scores[base.order]
        half = cap.share * (falling[0] - falling[-1]) / 2
        low = np.maximum(low, np.searchsorted(-falling, -(falling + half), side="left"))
        high = np.minimum(high, np.searchsorted(-falling, -(falling - half), side="right") - 1)
    return low, high
