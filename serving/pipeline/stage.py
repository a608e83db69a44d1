"""The interface of a pipeline stage."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from serving.pipeline.context import RankContext


class Stage(Protocol):
    """One step of a ranking. Only the runner times it, limits it and records its failure.

    Attributes:
        name: used in `timings_ms` and in the code ``<name>_failed``.
        personal: whether it is part of personalization, and so skipped once the context is settled or the
            budget is spent. The other stages (cap, holdout, business rules) always run.
    """

    name: str
    personal: bool

    def run(self, context: RankContext) -> Awaitable[None] | None:
        """Do the step. An exception skips it. Assign results last, so that a failure leaves none."""
