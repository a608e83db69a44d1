"""Counts of what happened to the rows of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from feature_repo.contract.validation import Kind


@dataclass(frozen=True)
class KindCounts:
    """Counts of one kind of record."""

    accepted: int = 0
    duplicate: int = 0

    def __add__(self, other: KindCounts) -> KindCounts:
        return KindCounts(self.accepted + other.accepted, self.duplicate + other.duplicate)


@dataclass(frozen=True)
class IngestCounts:
    """Outcome of every row: ``read = accepted + duplicate + quarantined``.

    Attributes:
        read: rows read, including unreadable stretches of files.
        quarantined: rejected rows, including those already in quarantine.
        kinds: accepted and duplicate records by kind.
        days: event days that received events.
        unknown: fields outside the contract, by name; they are kept as properties or attributes.
        problems: sentences about files that were truncated or could not be read at all.
        reasons: rejected rows by reason code.
        refused: files that could not be read at all; each counts as one rejected row.
        notes: sentences about what the mapping deliberately left out.
    """

    read: int = 0
    quarantined: int = 0
    kinds: dict[Kind, KindCounts] = field(
        default_factory=lambda: {"event": KindCounts(), "item": KindCounts(), "user": KindCounts()}
    )
    days: frozenset[date] = frozenset()
    unknown: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
    notes: tuple[str, ...] = ()

    @property
    def accepted(self) -> int:
        """Number of new rows."""
        return sum(c.accepted for c in self.kinds.values())

    @property
    def duplicate(self) -> int:
        """Number of rows that the lake already had, or that repeat another row of the same files."""
        return sum(c.duplicate for c in self.kinds.values())

    def __add__(self, other: IngestCounts) -> IngestCounts:
        return IngestCounts(
            self.read + other.read,
            self.quarantined + other.quarantined,
            {kind: counts + other.kinds[kind] for kind, counts in self.kinds.items()},
            self.days | other.days,
            Counter(self.unknown) + Counter(other.unknown),
            self.problems + other.problems,
            Counter(self.reasons) + Counter(other.reasons),
            self.refused + other.refused,
            self.notes + other.notes,
        )
