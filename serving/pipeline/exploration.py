"""Gives some slots to candidates from below the top, each with a known probability."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from math import ceil

import numpy as np
from msgspec import Struct

from feature_repo.arrays import Bits, Floats, Ints
from serving.control.apply_rules import Fixed, fixed_by
from serving.control.flags import Exploration
from serving.pipeline.context import RankContext
from serving.pipeline.draws import chances, explored
from serving.pipeline.rules import bought_of
from serving.schemas.rank_response import Tier
from serving.scoring.ordering import indices

_NONE = np.zeros(0, np.intp)
_chances = lru_cache(maxsize=128)(chances)
"""Cached by slots and share; a request's limit can ask for any number of slots."""


class Explored(Struct, frozen=True, eq=False):
    """An order with its probabilities.

    Attributes:
        order: candidate indices, best first.
        propensities: by candidate ``(n,)``: within the first ``m`` slots the probability of that slot; below
            them the probability of being below them. 1 if nothing is drawn.
        slots: positions that explore, ascending.
    """

    order: Ints
    propensities: Floats
    slots: Ints


def explore(order: Ints, request_id: str, rules: Exploration, limit: int | None = None) -> Explored:
    """Fill some slots with candidates drawn from below them.

    Args:
        order: candidate indices, best first; a permutation of ``0 … n − 1`` or a part of one.
        request_id: seeds the draw, so the same id and order give the same result.
        limit: length of the answer, if shorter than the order.

    Raises:
        IndexError: `order` holds a negative number.
    """
    n = len(order)
    m = _window(n, rules, limit)
    if m == 0:
        return Explored(order, np.ones(int(order.max()) + 1 if n else 0), _NONE)
    share = float(rules.share)
    found = Explored(*explored(indices(order), _drawn(request_id, 1 + n), share, _chances(m, share)))
    if not len(found.propensities):
        msg = "order: a candidate index is negative"
        raise IndexError(msg)
    return found


def _drawn(request_id: str, count: int) -> Bits:
    """Derive uniform 64-bit numbers from the request id with SHAKE-128 (FIPS 202).

    The result does not depend on library versions. Seeding a NumPy generator takes 60 µs in an idle process.
    """
    return np.frombuffer(hashlib.shake_128(request_id.encode()).digest(8 * count), "<u8")


def _window(n: int, rules: Exploration, limit: int | None) -> int:
    """Return the number of slots that may explore, limited by the number of candidates below them."""
    if rules.share == 0.0:
        return 0
    m = min(n if limit is None else limit, n, rules.slots)
    while m > 0 and n - m < ceil(rules.share * m):
        m -= 1
    return m if n > m else 0


class ExplorationStage:
    """Draws candidates from below the top slots without replacement, seeded by the request id.

    Args:
        purchase_weight: see `RulesStage`.
    """

    name = "exploration"
    personal = True

    def __init__(self, purchase_weight: float) -> None:
        self._purchase_weight = purchase_weight

    def run(self, context: RankContext) -> None:
        """Reorder, and set `propensities` and `drawn`.

        Candidates that rules will drop or place are excluded; otherwise they would shift the slots below them
        after the draw. The others keep the drawn order, so their propensities match their positions.
        """
        flags = context.flags.exploration
        if context.tier is Tier.BASE or flags.share == 0.0:
            return
        if not context.model.rules.rules:
            explored = explore(context.order, context.request_id, flags, context.request.limit)
            if len(explored.slots):
                context.reorder(explored.order, self.name)
            context.propensities, context.drawn = explored.propensities, explored.order[explored.slots]
            return
        fixed = self._fixed(context)
        order, free = context.order.copy(), np.ones(len(context.base.order), bool)
        free[np.fromiter(fixed.candidates, np.intp)] = False
        free = free[order]
        explored = explore(order[free], context.request_id, flags, context.request.limit)
        order[free] = explored.order
        if (order != context.order).any():
            context.reorder(order, self.name)
        context.drawn = explored.order[explored.slots]
        if fixed.others_keep:
            chances = np.ones(len(context.base.order))
            chances[explored.order] = explored.propensities[explored.order]
            context.propensities = chances

    def _fixed(self, context: RankContext) -> Fixed:
        model = context.model
        bought = bought_of(context, self._purchase_weight)
        return fixed_by(model.rules, context.order, context.item_ids, model.snapshot, bought)
