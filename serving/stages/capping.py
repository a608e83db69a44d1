"""Bounds the boost."""

from __future__ import annotations

from serving.answer import Tier
from serving.cap import capped
from serving.context import RankContext


class CapStage:
    """Keeps every item within its window around the base position."""

    name = "cap"
    personal = False  # a bound holds for what the blend has ordered, however late it is

    def run(self, context: RankContext) -> None:
        """Reorder where the blend moved something too far."""
        if context.tier is Tier.BASE:
            return
        order = capped(context.order, context.base, context.flags.cap)
        if order is not context.order:
            context.reorder(order, self.name)
