"""A mapping: where each field of an event, an item and a user comes from in a user's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from feature_repo.contract.validation import Kind


@dataclass(frozen=True, slots=True)
class Value:
    """The source of one value.

    Attributes:
        columns: paths; the first non-empty one is used, unless `join`, `all` or `hash` says otherwise.
        constant: a constant value.
        prefix: text put before the value.
        split: separator at which a text is split into a list.
        join: separator for combining all columns; the result is empty if one column is.
        all: make a list of all non-empty columns.
        hash: make an id from the columns; without columns, from the whole record.
        day_of: make an id for one user's day (UTC) from these columns and the event time.
        format: time format: ``iso``, ``epoch_s`` (``_ms``, ``_us``, ``_ns``), or a strptime pattern.
        zone: time zone of times without one.
        decimal: decimal separator of numbers.
        default: used when nothing is found.
    """

    columns: tuple[str, ...] = ()
    constant: object = None
    prefix: str = ""
    split: str | None = None
    join: str | None = None
    all: bool = False
    hash: bool = False
    day_of: tuple[str, ...] = ()
    format: str | None = None
    zone: str | None = None
    decimal: str = "."
    default: object = None


Field = tuple[Value, ...]
"""Alternatives in order: the first non-empty one is used."""


@dataclass(frozen=True, slots=True)
class When:
    """A condition on a row: a column has one of these texts."""

    columns: tuple[str, ...]
    values: frozenset[str]


@dataclass(frozen=True)
class Section:
    """The fields that a row gives to one kind of record.

    Attributes:
        kind: kind of record.
        fields: fields of the contract, by name.
        room: properties (events) or attributes, by name.
        rest: further attributes: ``*`` for all unused columns, or the path of an object.
        when: only rows that match this condition.
        files: only files whose name matches this pattern.
    """

    kind: Kind
    fields: Mapping[str, Field]
    room: Mapping[str, Field] = field(default_factory=dict)
    rest: str | None = None
    when: When | None = None
    files: str | None = None


@dataclass(frozen=True, slots=True)
class EventType:
    """The target of a source's event name.

    Attributes:
        name: type in the contract; `None` leaves such rows out.
        weight: weight of a type that is not built in.
    """

    name: str | None
    weight: float | None = None


@dataclass(frozen=True)
class RowMapping:
    """How the rows of a file become records.

    Attributes:
        sections: by kind of record; a row may give one record of each.
        event_types: by the source's name; ``*`` for all others.
        explode: path of a list whose elements become separate rows.
        columns: column names of a table without a header.
        typed_header: whether the header contains types, as in ``user_id:token``.
    """

    sections: tuple[Section, ...]
    event_types: Mapping[str, EventType] = field(default_factory=dict)
    explode: str | None = None
    columns: tuple[str, ...] = ()
    typed_header: bool = False

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights of event types that are not built in."""
        types = self.event_types.values()
        return {t.name: t.weight for t in types if t.name is not None and t.weight is not None}
