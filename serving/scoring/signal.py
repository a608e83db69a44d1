"""Declarations of ranking signals and their inputs. Each signal is one file in `serving/scoring/signals`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from feature_repo.arrays import Floats, Ints
from serving.items.item_rows import ItemRows

RAMP = 1.0
"""Number of touched items at which session signals reach half their weight."""


class Each(Enum):
    """The attributes for which a signal has one column each."""

    TYPE = "attribute type"
    NUMERIC = "numeric attribute"


class Taste(NamedTuple):
    """The taste of a user or a segment in attribute values and numeric attributes.

    Attributes:
        known: whether the profile has attribute values.
        values: numbers of its attribute values.
        odds: log((clicks + 1) / (expected · r + 1)) of each value: clicks compared to the average user's.
        medians: `item_rows.signed_log` of the median of the items engaged with ``(m,)``, nan if unknown.
    """

    known: bool
    values: Ints
    odds: Floats
    medians: Floats


class Leaning(NamedTuple):
    """The attribute values of a session: their numbers and weights."""

    known: bool
    values: Ints
    weights: Floats


@dataclass(eq=False)
class Asked:
    """The inputs of the signals of one request.

    Attributes:
        base: base scores in ``[0, 1]``, in base order ``(n,)``.
        rows: the candidates' features, in the same order.
        user, segment: their tastes.
        session: the session's attribute values.
        times_ms: time at which each item of ``rows.touched`` was touched (epoch ms).
        now_ms: current time (epoch ms).
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
        """Weight of session signals, which grows from 0 with the number of touched items."""
        touched = len(self.rows.touched)
        return touched / (touched + RAMP)

    @cached_property
    def alone(self) -> Floats:
        """Signals of the items alone ``(ALONE + m, n)``, one row per column of `ItemRows.alone`."""
        values: Floats = self.rows.alone[self.rows.places].T
        return values


@dataclass(frozen=True)
class Signal:
    """One ranking signal, with one column or one per member.

    Attributes:
        name: a signal with members has the columns ``name:member``.
        group: one of `signal_groups.GROUPS`.
        formula: for the documentation.
        words: for an explanation; ``{}`` is replaced by the member.
        members: names of the members, or the kind of attribute that has one each; empty for a single column.
    """

    name: str
    group: str
    formula: str
    words: str
    members: tuple[str, ...] | Each = ()

    def names(self, types: tuple[str, ...], numeric_names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the column names for a catalogue's attribute types and numeric attributes."""
        members = {Each.TYPE: types, Each.NUMERIC: numeric_names}
        found = members[self.members] if isinstance(self.members, Each) else self.members
        return tuple(f"{self.name}:{member}" for member in found) if self.members else (self.name,)


@dataclass(frozen=True)
class Family:
    """Signals that are computed together, declared by one file in `serving/scoring/signals`.

    Attributes:
        signals: in the order of their columns.
        fill: writes all columns of the signals ``(columns, n)``, with nan for unknown values.
        of_items: whether the signals need the item's features; they are then set to nan for unknown items.
    """

    signals: tuple[Signal, ...]
    fill: Callable[[Floats, Asked], None]
    of_items: bool = True
