"""Gives some slots to candidates the blend does not favour, and says with which chance each got its place."""

from __future__ import annotations

import numpy as np

from serving.answer import Tier
from serving.attributes import Floats, Ints
from serving.context import RankContext
from serving.exploration import explore
from serving.rules import Exclude, relevant
from serving.ruling import excluded
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
        """Reorder and set `propensities`."""
        rules = context.flags.exploration
        if context.tier is Tier.BASE or rules.share == 0.0:
            return
        gone = self._excluded(context)
        kept = context.order[~np.isin(context.order, gone)] if len(gone) else context.order
        explored = explore(kept, context.request_id, rules, context.request.limit)
        order = np.concatenate([explored.order, gone]) if len(gone) else explored.order
        if (order != context.order).any():
            context.reorder(order, self.name)
        context.propensities = None if self._placed(context) else _of_all(explored.propensities, order)

    def _excluded(self, context: RankContext) -> Ints:
        """What the rules will drop takes no slot, else the places behind it would shift after the draw."""
        model = context.model
        if not model.rules.rules:
            return np.zeros(0, np.intp)
        bought = bought_of(context, self._purchase_weight)
        return excluded(model.rules, context.order, context.item_ids, model.snapshot, bought)

    @staticmethod
    def _placed(context: RankContext) -> bool:
        """Whether rules move some candidates: their chances, and those of others, are then not known."""
        if not context.model.rules.rules:
            return False
        rules = relevant(context.model.rules, context.item_ids).rules
        return any(not isinstance(rule, Exclude) for rule in rules)


def _of_all(propensities: Floats, order: Ints) -> Floats:
    missing = int(order.max()) + 1 - len(propensities)
    return np.concatenate([propensities, np.ones(missing)]) if missing > 0 else propensities
