"""Gives some slots to candidates the blend does not favour, and says with which chance each got its place."""

from __future__ import annotations

from serving.answer import Tier
from serving.context import RankContext
from serving.exploration import explore


class ExplorationStage:
    """Draws without replacement from outside the top; the request id determines the draw."""

    name = "exploration"
    personal = True

    def run(self, context: RankContext) -> None:
        """Reorder and set `propensities`."""
        rules = context.flags.exploration
        if context.tier is Tier.BASE or rules.share == 0.0:
            return
        explored = explore(context.order, context.request_id, rules, context.request.limit)
        if (explored.order != context.order).any():
            context.reorder(explored.order, self.name)
        context.propensities = explored.propensities
