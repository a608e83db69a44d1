"""Counts of a lake sync."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class SyncCounts:
    """Result of one `LakeWriter.sync`.

    Attributes:
        events, items, users: rows written.
        duplicates: events already in the lake, and items or users identical to their newest row.
        quarantined: log records that cannot be read or written.
        days: event days that received rows.
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
