"""What a ranking signal is, and what it may read. Each signal is one file in `serving/scoring/signals`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from feature_repo.arrays import Floats, Ints
from serving.items.item_rows import ItemRows

RAMP = 1.0
"""Touched items at which the signals of a session have half their weight."""


class Each(Enum):
    """What a signal exists once for."""

    TYPE = "attribute type"
    NUMERIC = "numeric attribute"


class Taste(NamedTuple):
    """What the profile of a user or a segment says of attribute values and numeric attributes.

    Attributes:
        known: whether it says anything about attribute values.
        values: numbers of the values it knows.
        odds: log((clicks + 1) / (expected · r + 1)) of each: clicked more often than anyone would.
        medians: `items.signed_log` of the median of the items engaged with, nan where unknown ``(m,)``.
    """

    known: bool
    values: Ints
    odds: Floats
    medians: Floats


class Leaning(NamedTuple):
    """What a session says of attribute values: their numbers, and the weight of each."""

    known: bool
    values: Ints
    weights: Floats


@dataclass(eq=False)
class Asked:
    """All that the signals of one request are computed from.

    Attributes:
        base: base scores in ``[0, 1]``, in base order ``(n,)``.
        rows: the candidates' features, in the same order.
        user, segment: their tastes.
        session: what the session leans to.
        times_ms: when each item of ``rows.touched`` was touched (epoch ms).
        now_ms: the present (epoch ms).
    """

    base: Floats
    rows: ItemRows
    user: Taste
    segment: Taste
    session: Leaning
    times_ms: Floats
    now_ms: float

    def __len__(self) -> int:
        return len(self.base)

    @property
    def ramp(self) -> float:
        """Grows from 0 with the number of touched items: a session's signals start from nothing."""
        touched = len(self.rows.touched)
        return touched / (touched + RAMP)

    @cached_property
    def alone(self) -> Floats:
        """Values of the items alone, a row for each column of `ItemRows.alone` ``(ALONE + m, n)``."""
        values: Floats = self.rows.alone[self.rows.places].T
        return values


@dataclass(frozen=True)
class Signal:
    """One ranking signal, or one for each attribute.

    Attributes:
        name: a signal with members has the columns ``name:member``.
        group: of `signal_groups.GROUPS`.
        formula: for the documentation.
        words: for an explanation; ``{}`` is the member.
        members: their names, or what there is one for each of; none for a signal of one column.
    """

    name: str
    group: str
    formula: str
    words: str
    members: tuple[str, ...] | Each = ()

    def names(self, types: tuple[str, ...], numeric_names: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the columns for a catalogue's attribute types and numeric attributes."""
        members = {Each.TYPE: types, Each.NUMERIC: numeric_names}
        found = members[self.members] if isinstance(self.members, Each) else self.members
        return tuple(f"{self.name}:{member}" for member in found) if self.members else (self.name,)


@dataclass(frozen=True)
class Family:
    """Signals that one pass over the candidates computes: what a file in `serving/scoring/signals` declares.

    Attributes:
        signals: in the order of their columns.
        fill: writes all columns of the signals ``(columns, n)``, nan where unknown.
        of_items: whether the signals need to know the item; they are nan afterwards for unknown items.
    """

    signals: tuple[Signal, ...]
    fill: Callable[[Floats, Asked], None]
    of_items: bool = True
