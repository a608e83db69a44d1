"""Makes the first slots diverse."""

from __future__ import annotations

from serving.answer import Tier
from serving.context import RankContext
from serving.diversity import diversify


class DiversityStage:
    """Maximal marginal relevance and the cap per category, on what the blend has ordered."""

    name = "diversity"
    personal = True

    def run(self, context: RankContext) -> None:
        """Reorder the first slots."""
        snapshot, rules = context.model.snapshot, context.flags.diversity
        if context.tier is Tier.BASE or snapshot is None or not rules.active:
            return
        order = diversify(context.order, context.scores, context.numbers, snapshot, rules)
        if order is not context.order:
            context.reorder(order, self.name)
