"""What a stage of the ranking pipeline is."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from serving.pipeline.context import RankContext


class Stage(Protocol):
    """One step of a ranking. The runner alone times it, bounds it and records its failure.

    Attributes:
        name: as in `timings_ms` and in the code ``<name>_failed``.
        personal: whether it is part of personalization: skipped once the context is settled on the base
            order or the budget is spent. What is not personal (cap, holdout, business rules) runs always.
    """

    name: str
    personal: bool

    def run(self, context: RankContext) -> Awaitable[None] | None:
        """Do the step; whatever is raised skips it. Assign results last, so that a failure leaves none."""
