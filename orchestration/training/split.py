"""Splits by time, separated by an embargo."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from feature_repo.offline.point_in_time import instant

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True)
class Split:
    """The start of validation and of test, each preceded by the embargo.

    A decision belongs to the split of its time. During the embargo before a split it belongs to none, because
    its labels might fall in the time of that split.
    """

    validation_from: datetime
    test_from: datetime
    embargo: timedelta

    @classmethod
    def of(cls, times: list[datetime], shares: tuple[float, float, float], embargo: timedelta) -> "Split":
        """Choose bounds such that the given shares of the decisions (in time order) are before each."""
        return cls.at(len(times), times.__getitem__, shares, embargo)

    @classmethod
    def at(
        cls,
        count: int,
        time_of: Callable[[int], datetime],
        shares: tuple[float, float, float],
        embargo: timedelta,
    ) -> "Split":
        """Like `of`, but request only the times of two decisions, by their number in time order."""
        train, validation, _ = shares
        # Rounded, because 0.7 + 0.1 is slightly less than 0.8 and would cost validation a decision.
        first, second = (min(int(round(count * s, 6)), count - 1) for s in (train, train + validation))
        return cls(time_of(first), time_of(second), embargo)

    def name(self, time: datetime) -> str | None:
        """Return the split of a decision; `None` within an embargo."""
        if time >= self.test_from:
            return TEST
        if time >= self.test_from - self.embargo:
            return None
        if time >= self.validation_from:
            return VALIDATION
        return None if time >= self.validation_from - self.embargo else TRAIN

    def sql(self, time: str) -> str:
        """Return `name` as an SQL expression over a column."""
        gap = f"to_microseconds({self.embargo // timedelta(microseconds=1)})"
        test, validation = instant(self.test_from), instant(self.validation_from)
        return (
            f"CASE WHEN {time} >= {test} THEN '{TEST}' WHEN {time} >= {test} - {gap} THEN NULL "
            f"WHEN {time} >= {validation} THEN '{VALIDATION}' "
            f"WHEN {time} >= {validation} - {gap} THEN NULL ELSE '{TRAIN}' END"
        )
