"""What a sync of the lake did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class SyncCounts:
    """What one `LakeWriter.sync` did.

    Attributes:
        events, items, users: rows written.
        duplicates: events the lake had, and items or users identical to the newest it had.
        quarantined: records of the log that cannot be read or written.
        days: event days that got rows.
    """

    events: int = 0
    items: int = 0
    users: int = 0
    duplicates: int = 0
    quarantined: int = 0
    days: frozenset[date] = frozenset()

    def __add__(self, other: SyncCounts) -> SyncCounts:
        return SyncCounts(
            self.events + other.events,
            self.items + other.items,
            self.users + other.users,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            self.days | other.days,
        )
