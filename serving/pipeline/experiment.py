"""Experiment arms, and the permanent holdout."""

from __future__ import annotations

from serving.control.experiments import Assignment, assign
from serving.control.flags import Flags, changed
from serving.pipeline.context import RankContext
from serving.schemas.rank_response import Tier

KEPT = 256
"""Maximum number of cached flag sets, one per combination of arms."""


class ArmStage:
    """Assigns arms and applies their flags to this request."""

    name = "arm"
    personal = True

    def __init__(self) -> None:
        self._of: Flags | None = None
        self._replaced: dict[tuple[tuple[str, str], ...], Flags] = {}

    def run(self, context: RankContext) -> None:
        """Set `arms`, `flags` and `held_out`."""
        request, flags = context.request, context.flags
        given = assign(
            flags.experiments, flags.holdout, request.user_id, request.session_id, request.overrides
        )
        if given.flags:
            context.flags = self._with(flags, given)
        context.arms = dict(given.arms)
        # An arm that switches personalization off is a control group: same work, base order.
        context.held_out = given.held_out or not context.flags.personalization

    def _with(self, flags: Flags, given: Assignment) -> Flags:
        if flags is not self._of or len(self._replaced) >= KEPT:
            self._of, self._replaced = flags, {}
        key = tuple(given.arms.items())
        held = self._replaced.get(key)
        if held is None:
            held = self._replaced[key] = changed(flags, given.flags)
        return held


class HoldoutStage:
    """Gives held-out units the base order after the same work, so that latency does not differ by arm."""

    name = "holdout"
    personal = False  # held-out units stay held out when the budget is spent after the blend

    def run(self, context: RankContext) -> None:
        """Return to the base order if held out."""
        if context.held_out:
            context.reset()
            context.tier = Tier.BASE
