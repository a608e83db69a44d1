"""Gives some slots to candidates that the blend does not favour, each with a known probability."""

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
"""By slots and share: a limit of the request may ask for any count of them."""


class Explored(Struct, frozen=True, eq=False):
    """An order with its chances.

    Attributes:
        order: candidate indices, best first.
        propensities: by candidate ``(n,)``: within the first ``m`` slots the chance of standing in that very
            slot; behind them the chance of standing behind them. 1 where nothing is drawn.
        slots: positions that explore, ascending.
    """

    order: Ints
    propensities: Floats
    slots: Ints


def explore(order: Ints, request_id: str, rules: Exploration, limit: int | None = None) -> Explored:
    """Give some slots away.

    Args:
        order: candidate indices, best first; a permutation of ``0 … n − 1`` or a part of one.
        request_id: seeds the draw: the same id and order give the same answer.
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
        msg = "order: holds a negative number, which is no candidate"
        raise IndexError(msg)
    return found


def _drawn(request_id: str, count: int) -> Bits:
    """Uniform bits that the request id determines, 64 for each number drawn.

    By SHAKE-128 (FIPS 202): the same with every version of every library, and one call, where to seed a
    generator of numpy's takes 60 µs in a process that was just woken.
    """
    return np.frombuffer(hashlib.shake_128(request_id.encode()).digest(8 * count), "<u8")


def _window(n: int, rules: Exploration, limit: int | None) -> int:
    """Slots among which some explore: few enough that the candidates below can fill them; 0 for none."""
    if rules.share == 0.0:
        return 0
    m = min(n if limit is None else limit, n, rules.slots)
    while m > 0 and n - m < ceil(rules.share * m):
        m -= 1
    return m if n > m else 0


class ExplorationStage:
    """Draws without replacement from outside the top; the request id determines the draw.

    Args:
        purchase_weight: as of `RulesStage`.
    """

    name = "exploration"
    personal = True

    def __init__(self, purchase_weight: float) -> None:
        self._purchase_weight = purchase_weight

    def run(self, context: RankContext) -> None:
        """Reorder and set `propensities`.

        What rules will drop or place takes no part, else it would shift the slots behind it after the draw:
        the others keep the order that was drawn, so that their chances are those of the places they get.
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
