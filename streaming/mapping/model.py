"""A mapping: where each field of an event, an item and a user comes from in somebody's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from feature_repo.contract.validation import Kind


@dataclass(frozen=True, slots=True)
class Value:
    """Where one value comes from.

    Attributes:
        columns: paths; the first that holds something is used, unless `join`, `all` or `hash` says otherwise.
        constant: the value itself.
        prefix: put before the text.
        split: separator of the parts of a text, which becomes a list.
        join: combine all columns with this between them; nothing if one is empty.
        all: make a list of every column that holds something.
        hash: an id made from the columns; without columns, from the whole record.
        day_of: an id of one user's day (UTC), from these columns and the event time.
        format: of a time: ``iso``, ``epoch_s`` (``_ms``, ``_us``, ``_ns``), or a strptime pattern.
        zone: of a time that has none.
        decimal: sign before the decimals of a number.
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
"""Alternatives in order: the first that gives something is used."""


@dataclass(frozen=True, slots=True)
class When:
    """A condition on a row: one column has one of these texts."""

    columns: tuple[str, ...]
    values: frozenset[str]


@dataclass(frozen=True)
class Section:
    """What a row says about one kind of record.

    Attributes:
        kind: of record.
        fields: of the contract, by name.
        room: properties (events) or attributes, by name.
        rest: further attributes: ``*`` for all columns not used otherwise, or the path of an object.
        when: only rows that meet this.
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
    """What a source's event name becomes.

    Attributes:
        name: of the contract; `None` leaves such rows out.
        weight: registered for a type that is not built in.
    """

    name: str | None
    weight: float | None = None


@dataclass(frozen=True)
class RowMapping:
    """How the rows of a file become records.

    Attributes:
        sections: by kind of record; a row may give one of each.
        event_types: by the source's name; ``*`` for all others.
        explode: path of a list whose elements become rows of their own.
        columns: names of the columns of a table without a header.
        typed_header: whether the header says types, as in ``user_id:token``.
    """

    sections: tuple[Section, ...]
    event_types: Mapping[str, EventType] = field(default_factory=dict)
    explode: str | None = None
    columns: tuple[str, ...] = ()
    typed_header: bool = False

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the event types that are not built in."""
        types = self.event_types.values()
        return {t.name: t.weight for t in types if t.name is not None and t.weight is not None}
