"""Gives some slots to candidates the blend does not favour, and says with which chance each got its place."""

from __future__ import annotations

import numpy as np

from serving.answer import Tier
from serving.context import RankContext
from serving.exploration import explore
from serving.ruling import Fixed, fixed_by
from serving.stages.ruling import bought_of


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
