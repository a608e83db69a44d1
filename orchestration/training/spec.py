"""Specification of a training set."""

import math
from dataclasses import dataclass
from datetime import date, timedelta

from feature_repo.errors import BuildError

LABELS: dict[str, str] = {"label_click": "click", "label_cart": "add_to_cart", "label_purchase": "purchase"}
"""Label column → the event type that sets it."""
GROUPS = ("user_profile", "segment_profile", "item_profile", "session_profile")
"""Groups whose rows are joined; groups logged in decisions are taken from the record first."""


@dataclass(frozen=True)
class TrainingSpec:
    """Selects decisions, labels and splits.

    Attributes:
        first, last: event days of the decisions, both included.
        attribution: how long after a decision an event is attributed to it.
        embargo: gap before each later split; at least `attribution`, so that no label of one split occurs
            in the time of the next.
        shares: shares of the decisions, by time: train, validation, test.
    """

    first: date
    last: date
    attribution: timedelta = timedelta(hours=1)
    embargo: timedelta = timedelta(hours=1)
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)

    def __post_init__(self) -> None:
        if self.embargo < self.attribution:
            msg = (
                f"embargo of {self.embargo} is shorter than the attribution window of {self.attribution}; "
                "labels of one split would fall in the time of the next"
            )
            raise BuildError(msg)
        if self.last < self.first:
            msg = f"last day {self.last} is before the first, {self.first}; swap them"
            raise BuildError(msg)
        if not math.isclose(sum(self.shares), 1) or min(self.shares) < 0:
            msg = f"shares {self.shares} must be at least 0 and sum to 1, e.g. (0.8, 0.1, 0.1)"
            raise BuildError(msg)
