"""Reads a file with a mapping, through the same interface as the built-in formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from feature_repo.contract.json_batch import as_json
from feature_repo.contract.reasons import cut
from feature_repo.contract.validation import Kind
from feature_repo.errors import ContractError, SourceError
from streaming.mapping.model import RowMapping, Section
from streaming.mapping.plain import MappedRows, opened
from streaming.mapping.records import Records, columns_of
from streaming.sources.files import InputFile
from streaming.sources.plain import Layout, PlainRow
from streaming.sources.source import Raw, Row

_NAMES_SEEN = 1_000
_SHOWN = 12
_KEPT_ITEMS = 500_000


class MappedSource:
    """Files of another shape. A row may give several records; a rejected record keeps the whole row.

    Args:
        mapping: the files' mapping.
        sample: number of rows to read from each file; default: all.

    Attributes:
        skipped: rows that the mapping deliberately leaves out, counted by reason.
        left_out: columns that the mapping does not use.
        absent: columns in the mapping that the files lack.
    """

    def __init__(self, mapping: RowMapping, sample: int | None = None) -> None:
        self._mapping = mapping
        self._sample = sample
        self.skipped: Counter[str] = Counter()
        self.left_out: dict[str, None] = {}
        self.absent: dict[str, None] = {}

    @property
    def event_types(self) -> Mapping[str, float]:
        """Event types that the mapping defines, with their weights."""
        return self._mapping.weights

    def files(self, path: InputFile) -> list[InputFile]:
        """Return the file itself, or the files of a folder that the mapping names: items and users first."""
        if not path.path.is_dir():
            path.records_hold_lists = True
            return [path]
        patterns = [s.files for s in sorted(self._mapping.sections, key=_events_last) if s.files]
        found = [p for pattern in patterns for p in sorted(path.path.glob(pattern))]
        if not found:
            msg = f"{path.path}: a folder; give the files in it, e.g. {path.path}/*.csv"
            raise SourceError(msg)
        return [file for p in dict.fromkeys(found) for file in self.files(InputFile(p, path.limits))]

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Yield the records of a file's rows."""
        file.records_hold_lists = True
        table = MappedRows(file, self._mapping)
        records = Records(self._mapping, file.path.name, kind)
        self._check(file, records, table.columns)
        table.typed(
            (c for s in records.sections if s.kind != "event" for c in _attributes(s, table.columns)),
            self._sample,
        )
        records = Records(self._mapping, file.path.name, kind, table.types)
        fresh = _Fresh()
        for number, row in enumerate(islice(table, self._sample)):
            if row.error is not None:
                yield Row(row.fields, row.line, row.error, row.kept, row.layout)
                continue
            try:
                fields = opened(row.fields, row.layout.types if row.layout else {})
            except ContractError as error:
                yield Row(row.fields, row.line, error, row.kept, row.layout)
                continue
            if number < _NAMES_SEEN and table.columns is None:
                self._see(records, fields)
            for of_kind, record in records.of(fields):
                if isinstance(record, ContractError) or of_kind == "event" or fresh.is_new(record):
                    yield _row(row, of_kind, record)
        self.skipped += records.skipped

    def notes(self) -> tuple[str, ...]:
        """Describe what was left out: rows by reason, unused columns, missing columns."""
        found = [f"left out by the mapping: {_most(self.skipped)}"] if self.skipped else []
        if self.left_out:
            found.append(f"columns the mapping does not use: {_some(self.left_out)}")
        if self.absent:
            found.append(f"columns of the mapping that the file lacks: {_some(self.absent)}")
        return tuple(found)

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """Return the record unchanged: `rows` and `reread` already convert."""
        return raw

    def reread(self, raw: bytes, layout: Layout | None, kind: Kind | None, path: str) -> list[dict[str, Any]]:
        """Read the records of a row kept in quarantine, starting with the rejected kind.

        Raises:
            ContractError: a record cannot be created.
        """
        types = layout.types if layout is not None else {}
        fields = opened(layout.cells(raw) if layout is not None else raw, types)
        found = []
        for of_kind, record in Records(self._mapping, Path(path).name, None, types).of(fields):
            if of_kind == "event" and kind not in (None, "event"):
                continue
            if isinstance(record, ContractError):
                raise record
            found.append(record)
        return found

    def _check(self, file: InputFile, records: Records, columns: tuple[str, ...] | None) -> None:
        """Check that the file has what its first section needs.

        Raises:
            SourceError: it lacks a column that every record needs, or no section applies to it.
        """
        if not records.sections:
            names = ", ".join(s.files or s.kind for s in self._mapping.sections)
            msg = f"{file.path}: no section of the mapping ({names}) is for this file; is --kind right?"
            raise SourceError(msg)
        if columns is None:
            return
        has = set(columns)
        for section in records.sections:
            self.absent |= dict.fromkeys(c for c in columns_of(section) if not _is_in(c, has))
        section = records.sections[0]
        for name in ("event_type", "event_time", "session_id", f"{section.kind}_id"):
            wanted = [c for v in section.fields.get(name, ()) for c in (*v.columns, *v.day_of)]
            if wanted and not any(_is_in(c, has) for c in wanted) and not _has_other(section, name):
                msg = (
                    f"{file.path}: no {' or '.join(wanted)} for [{section.kind}] {name} of the mapping; "
                    f"the file has {', '.join(columns)}"
                )
                raise SourceError(msg)
        self._see(records, dict.fromkeys(columns))

    def _see(self, records: Records, fields: Mapping[str, Any]) -> None:
        if all(s.rest != "*" for s in records.sections):
            self.left_out |= dict.fromkeys(n for n in fields if n not in records.used)


def _most(counts: Counter[str]) -> str:
    shown = ", ".join(f"{count:,} rows ({why})" for why, count in counts.most_common(_SHOWN))
    return shown + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _some(names: Mapping[str, None]) -> str:
    few = [cut(name) for name in list(names)[:_SHOWN]]
    return ", ".join(few) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


class _Fresh:
    """Filter for item and user records that differ from the last one, since rows of events repeat them."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}

    def is_new(self, record: Mapping[str, Any]) -> bool:
        kind = record["record"]
        key = kind, str(record.get(f"{kind}_id"))
        if len(self._last) > _KEPT_ITEMS:
            self._last.clear()
        seen, self._last[key] = self._last.get(key), hash(as_json(record))
        return seen != self._last[key]


def _row(row: PlainRow, kind: Kind, record: dict[str, Any] | ContractError) -> Row:
    layout = replace(row.layout, kind=kind) if row.layout is not None else Layout((), kind=kind)
    error = record if isinstance(record, ContractError) else None
    raw = row.fields if isinstance(record, ContractError) else record
    kept = row.fields if isinstance(row.fields, bytes) else row.kept
    return Row(raw, row.line, error, kept, layout, row.fields)


def _attributes(section: Section, columns: tuple[str, ...] | None) -> list[str]:
    """List the columns that become attributes, which are typed by the whole column."""
    if section.rest == "*":
        used = set(columns_of(section))
        return [c for c in columns or () if c not in used]
    return [c for f in section.room.values() for v in f for c in v.columns]


def _is_in(column: str, columns: set[str]) -> bool:
    return column in columns or column.partition(".")[0] in columns


def _has_other(section: Section, name: str) -> bool:
    """Return whether a field has an alternative that needs no column."""
    return any(
        v.constant is not None or v.default is not None or (v.hash and not v.columns)
        for v in section.fields.get(name, ())
    )


def _events_last(section: Section) -> bool:
    return section.kind == "event"
