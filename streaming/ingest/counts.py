"""What became of the rows of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from feature_repo.contract.validation import Kind


@dataclass(frozen=True)
class KindCounts:
    """Records of one kind."""

    accepted: int = 0
    duplicate: int = 0

    def __add__(self, other: KindCounts) -> KindCounts:
        return KindCounts(self.accepted + other.accepted, self.duplicate + other.duplicate)


@dataclass(frozen=True)
class IngestCounts:
    """What became of every row: ``read = accepted + duplicate + quarantined``.

    Attributes:
        read: rows read, and stretches of files that are no rows.
        quarantined: rejected, whether or not the quarantine held them already.
        kinds: accepted and duplicate by kind.
        days: event days that got events.
        unknown: fields the contract does not know, by name, kept as properties or attributes.
        problems: files that were cut short or could not be read at all, as sentences.
        reasons: rejected by reason code.
        refused: files that could not be read at all; each counts as one row, rejected.
        notes: what a mapping left out by its own word, as sentences.
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
        """Rows that are new."""
        return sum(c.accepted for c in self.kinds.values())

    @property
    def duplicate(self) -> int:
        """Rows the lake had, or that repeat another of the same files."""
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
