"""Limits how far personalization may move an item from its base position."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Ints
from serving.control.flags import Cap
from serving.pipeline.context import RankContext
from serving.schemas.rank_response import Tier
from serving.scoring.base_order import BaseOrder

_NOT_ALL = "order: not a permutation of the candidates"


def capped(order: Ints, base: BaseOrder, cap: Cap) -> Ints:
    """Move every item into its window; return the same array if nothing moves.

    Args:
        order: candidate indices, best first; a permutation.
        base: base positions and scores.
        cap: `positions` limits ``|position − base position|``. `share` limits the difference between the base
            score of an item and that of the item whose base position it takes, as a share of the spread.

    Raises:
        IndexError: `order` is not a permutation.
    """
    n = len(order)
    free = cap.positions is None or cap.positions >= 2 * (n - 1)
    if n == 0 or (free and cap.share is None):
        return order  # every window covers all positions
    if len(base.order) != n or order.min() < 0 or order.max() >= n:
        raise IndexError(_NOT_ALL)
    half = np.arange(0, 2 * n, 2)  # positions are doubled so that half positions stay integers
    reach = 2 * n if cap.positions is None else cap.positions
    low, high = np.maximum(half - reach, 0), np.minimum(half + reach, 2 * (n - 1))
    if cap.share is not None:
        _narrow(low, high, base, cap.share)
    home = base.positions[order]
    cut = np.clip(half, low[home], high[home])
    return order if (cut[1:] >= cut[:-1]).all() else order[cut.argsort(kind="stable")]


def _narrow(low: Ints, high: Ints, base: BaseOrder, share: float) -> None:
    """Narrow the windows to base positions whose score differs by at most half the share of the spread."""
    falling = -base.scores[base.order]
    half = share * (falling[-1] - falling[0]) / 2
    np.maximum(low, 2 * falling.searchsorted(falling - half), out=low)
    np.minimum(high, 2 * (falling.searchsorted(falling + half, "right") - 1), out=high)


class CapStage:
    """Keeps every item within its window around the base position."""

    name = "cap"
    personal = False  # the cap applies to every blended order, even when the budget is spent

    def run(self, context: RankContext) -> None:
        """Reorder if the blend moved an item too far."""
        if context.tier is Tier.BASE:
            return
        order = capped(context.order, context.base, context.flags.cap)
        if order is not context.order:
            context.reorder(order, self.name)
