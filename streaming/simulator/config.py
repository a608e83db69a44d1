"""Parameters of a simulated shop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from feature_repo.errors import SourceError

DriftKind = Literal["taste", "conversion", "activity"]
DEFAULT_END = datetime(2024, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Drift:
    """A change planted in the traffic from a day on: tastes turn, prices rise or clicks fall.

    Attributes:
        from_day: first affected day (from 0).
        kind: ``taste`` (every user's categories rotate), ``conversion`` (carts and purchases halve),
            ``activity`` (half as many sessions).
    """

    from_day: int
    kind: DriftKind = "taste"


@dataclass(frozen=True)
class ShopConfig:
    """Size, seed and period of a shop, and the faults of delivery.

    Attributes:
        end: first instant after the last simulated day.
        sessions_per_user_day: mean sessions per user and day; about 9 events each.
        duplicates, late, malformed: shares of the events. A duplicate repeats an event, a late one arrives
            15 minutes to 20 hours after it happened, a malformed one is an additional, unreadable line.
        drift: a planted change; without it the shop is stable.
    """

    users: int = 2000
    items: int = 1000
    days: int = 14
    seed: int = 0
    end: datetime = DEFAULT_END
    sessions_per_user_day: float = 0.35
    duplicates: float = 0.01
    late: float = 0.005
    malformed: float = 0.001
    drift: Drift | None = None

    def __post_init__(self) -> None:
        for name in ("users", "items", "days"):
            if getattr(self, name) < 1:
                msg = f"--{name} {getattr(self, name)}: a shop needs at least 1"
                raise SourceError(msg)
        for name in ("duplicates", "late", "malformed"):
            if not 0 <= getattr(self, name) <= 1:
                msg = f"--{name} {getattr(self, name)}: a share is between 0 and 1, e.g. 0.01"
                raise SourceError(msg)
        if self.end.tzinfo is None:
            msg = f"--end {self.end.isoformat()}: needs a time zone, e.g. 2024-06-01T00:00:00Z"
            raise SourceError(msg)

    @property
    def start(self) -> datetime:
        """First instant of the first day."""
        return self.end - timedelta(days=self.days)
