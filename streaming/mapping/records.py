"""Converts a row of a file to records, by a mapping. Pure: the same row gives the same records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from feature_repo.contract.fields import ROOMS
from feature_repo.contract.json_batch import as_json
from feature_repo.contract.reasons import shown
from feature_repo.contract.validation import Kind
from feature_repo.errors import ContractError
from streaming.mapping.model import Field, RowMapping, Section
from streaming.mapping.paths import elements, find
from streaming.mapping.values import TIMES, WHOLE, as_attribute, as_text, evaluate, fitted, is_empty
from streaming.sources.source import identity

ANY = "*"
_TELLING = (
    "event_type",
    "event_time",
    "session_id",
    "user_id",
    "item_id",
    "items",
    "request_id",
    "position",
    "query",
)
"""Fields that identify an event if the file has no id."""


class Records:
    """Converter from the rows of one file to records.

    Args:
        mapping: the file's mapping.
        name: the file's name, for sections that apply to some files only.
        kind: produce only records of this kind.
        types: types of a text table's columns that are not text.

    Attributes:
        sections: the mapping's sections that apply to this file.
        used: names of the columns they use.
        skipped: rows that the mapping deliberately leaves out, counted by reason.
    """

    def __init__(
        self, mapping: RowMapping, name: str, kind: Kind | None = None, types: Mapping[str, str] | None = None
    ) -> None:
        self._mapping = mapping
        self.sections = [s for s in mapping.sections if kind in (None, s.kind)]
        self.sections = [
            s for s in self.sections if s.files is None or fnmatch(name.lower(), s.files.lower())
        ]
        self._types = types or {}
        self.used = {c.partition(".")[0] for s in self.sections for c in columns_of(s)}
        self.used |= {c for s in self.sections for c in columns_of(s)}
        self.skipped: Counter[str] = Counter()

    def of(self, row: Mapping[str, Any]) -> Iterator[tuple[Kind, dict[str, Any] | ContractError]]:
        """Yield the records of a row, each with its kind; an error in place of one that cannot be created."""
        path = self._mapping.explode
        parts = elements(row, path) if path is not None else [row]
        given = False
        for place, part in enumerate(parts):
            for section in self.sections:
                if not _applies(section, part):
                    continue
                try:
                    record = self._record(section, part, place)
                except ContractError as error:
                    given = True
                    yield section.kind, error
                    continue
                except Exception as error:  # an unforeseen value must not stop the rows after it
                    given = True
                    msg = f"cannot be read ({type(error).__name__}: {error})"
                    yield section.kind, ContractError("unreadable_row", "", msg)
                    continue
                given = True
                if record is not None:
                    yield section.kind, record
        if not given:
            self.skipped["no section of the mapping applies"] += 1

    def _record(self, section: Section, row: Mapping[str, Any], place: int) -> dict[str, Any] | None:
        if section.kind == "event":
            return self._event(section, row, place)
        key = f"{section.kind}_id"
        if is_empty(evaluate(section.fields[key], row, key)) and len(self.sections) > 1:
            return None  # an event without an item does not describe one
        fields = self._fields(section, row)
        room = {name: value for name, value in self._attributes(section, row).items() if not is_empty(value)}
        return {**fields, ROOMS[section.kind]: room} if room else fields

    def _event(self, section: Section, row: Mapping[str, Any], place: int) -> dict[str, Any] | None:
        source = evaluate(section.fields["event_type"], row, "event_type")
        name = self._type(source)
        if name is None:
            self.skipped[f"event type {shown(source)}"] += 1
            return None
        fields = {**self._fields(section, row), "event_type": name}
        room = {n: evaluate(f, row, n) for n, f in section.room.items()}
        room.update(self._rest(section, row))
        found = fields.pop("event_id", None)
        if texts := {n: as_text(v) for n, v in room.items() if not is_empty(v)}:
            fields["properties"] = texts
        if found is WHOLE:
            # Exclude the properties: mapping one more must not give every event of the file a new id.
            found = identity(as_json([fields.get(n) for n in _TELLING]).decode())
        elif found is not None and place:
            found = f"{found}#{place}"  # the elements of a row share its id
        return fields if found is None else {**fields, "event_id": found}

    def _type(self, source: Any) -> str | None:
        if source is None:
            return ""
        text = as_text(source)
        types = self._mapping.event_types
        if known := types.get(text) or types.get(ANY):
            return known.name
        return text

    def _fields(self, section: Section, row: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"record": section.kind}
        time = None
        for name in sorted(section.fields, key=lambda n: n not in TIMES):  # ids by day need the time
            if name == "event_type":
                continue
            value = evaluate(section.fields[name], row, name, time)
            if name in TIMES:
                time = value
            if value is not None:
                found[name] = value if value is WHOLE else fitted(name, value)
        return found

    def _attributes(self, section: Section, row: Mapping[str, Any]) -> dict[str, Any]:
        found = {n: _attribute(f, row, n, self._types) for n, f in section.room.items()}
        rest = self._rest(section, row)
        return {
            **{n: as_attribute(v, self._types.get(n)) for n, v in rest.items() if not is_empty(v)},
            **found,
        }

    def _rest(self, section: Section, row: Mapping[str, Any]) -> dict[str, Any]:
        if section.rest is None:
            return {}
        if section.rest == ANY:
            return {n: v for n, v in row.items() if n not in self.used}
        found = find(row, section.rest)
        return dict(found) if isinstance(found, Mapping) else {}


def columns_of(section: Section) -> list[str]:
    """List the columns that a section names."""
    fields = [*section.fields.values(), *section.room.values()]
    return [c for f in fields for v in f for c in (*v.columns, *v.day_of)]


def _attribute(field: Field, row: Mapping[str, Any], name: str, types: Mapping[str, str]) -> Any:
    value = evaluate(field, row, name)
    if is_empty(value):
        return None
    kinds = {types.get(c) for v in field for c in v.columns}
    return as_attribute(value, kinds.pop() if len(kinds) == 1 else None)


def _applies(section: Section, row: Mapping[str, Any]) -> bool:
    when = section.when
    if when is None:
        return True
    return any(as_text(v) in when.values for c in when.columns if not is_empty(v := find(row, c)))
