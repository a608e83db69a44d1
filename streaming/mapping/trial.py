"""Tries a mapping on the first rows of a file: sample records, and every problem at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from feature_repo.contract.validation import Contract, Event, Kind, Record
from feature_repo.errors import ContractError, SourceError
from feature_repo.settings import Settings, with_registered
from streaming.mapping.likely import fitting
from streaming.mapping.model import RowMapping
from streaming.mapping.plain import HEADER_TYPES, MappedRows, opened
from streaming.mapping.profile import profile
from streaming.mapping.propose import propose
from streaming.mapping.reading import parse_mapping
from streaming.mapping.source import MappedSource
from streaming.mapping.toml_text import to_toml
from streaming.sources.files import InputFile

SAMPLE, SHOWN, EXAMPLES = 10_000, 10, 3
_DATA = re.compile(r"[+-]?\d+([.,]\d+)?|\d{4}-\d\d-\d\d.*")


@dataclass
class Problem:
    """A reason why some rows do not fit.

    Attributes:
        code, where: the contract's reason.
        count: number of affected records in the sample.
        examples: row and message of a few records.
    """

    code: str
    where: str
    count: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Trial:
    """The result of a mapping on a sample.

    Attributes:
        read: number of records, good or bad.
        records: the first good ones of each kind.
        kinds: number of good records by kind.
        problems: problems by code and field.
        repeated: number of events that repeat an earlier id.
        notes: what the mapping left out.
    """

    read: int = 0
    records: dict[Kind, list[Record]] = field(default_factory=dict)
    kinds: dict[Kind, int] = field(default_factory=dict)
    problems: dict[tuple[str, str], Problem] = field(default_factory=dict)
    repeated: int = 0
    notes: tuple[str, ...] = ()


def suggest(file: InputFile, kind: Kind | None = None) -> str:
    """Propose a mapping for a file, as TOML.

    Raises:
        SourceError: the file cannot be read, has no row, or nothing in it looks like a record.
    """
    typed = _says_types(file)
    rows = list(_sample(file, typed=typed))
    if not rows:
        msg = f"{file.name}: no row to learn from"
        raise SourceError(msg)
    seen = profile(rows)
    found = propose(seen, rows, kind)
    if typed:
        found.top["header"] = "typed"
    found.notes[:0] = [f"this looks like {name}: try --map {name}" for name in fitting(seen)]
    if not found.sections:
        columns = ", ".join(dict.fromkeys(name for row in rows[:100] for name in row))
        msg = f"{file.name}: {'; '.join(found.notes)}; columns: {columns}; write a mapping by hand"
        raise SourceError(msg)
    return to_toml(found, f"Proposed from the first {len(rows):,} rows of {file.name}.")


def try_mapping(mapping: RowMapping, file: InputFile, settings: Settings, kind: Kind | None = None) -> Trial:
    """Map and validate the first rows of a file; write nothing.

    Raises:
        SourceError: the file cannot be read at all.
    """
    source = MappedSource(mapping, sample=SAMPLE)
    contract = Contract(with_registered(settings, source.event_types), settings.clock)
    trial = Trial()
    seen: set[str] = set()
    (file,) = source.files(file)
    for row in source.rows(file, kind):
        trial.read += 1
        try:
            if row.error is not None:
                raise row.error
            record = contract.parse(source.convert(row.raw, kind), kind)
        except ContractError as error:
            _count(trial, row.line, error)
            continue
        if isinstance(record, Event):
            trial.repeated += record.event_id in seen
            seen.add(record.event_id)
        trial.kinds[record.kind] = trial.kinds.get(record.kind, 0) + 1
        if len(few := trial.records.setdefault(record.kind, [])) < SHOWN:
            few.append(record)
    trial.notes = source.notes()
    return trial


def proposed(text: str) -> RowMapping:
    """Parse a proposal's text, so that what is printed is what is tried."""
    return parse_mapping(text, "the proposal")


def _count(trial: Trial, line: int, error: ContractError) -> None:
    problem = trial.problems.setdefault((error.code, error.field), Problem(error.code, error.field))
    problem.count += 1
    if len(problem.examples) < EXAMPLES:
        problem.examples.append((line, str(error)))


def _says_types(file: InputFile) -> bool:
    """Return whether the header of a table contains types.

    Raises:
        SourceError: the first line is a row, not a header.
    """
    file.records_hold_lists = True
    columns = MappedRows(file, RowMapping(())).columns
    if columns is None or file.content.shape != "table":
        return False
    if sum(_DATA.fullmatch(name) is not None for name in columns) > len(columns) / 2:
        msg = (
            f"{file.name}: the first line is a row ({', '.join(columns[:5])}), not a header; name columns "
            'in a mapping, columns = ["session", "time", …], and see --map yoochoose'
        )
        raise SourceError(msg)
    return all(name.rpartition(":")[2] in HEADER_TYPES and ":" in name for name in columns)


def _sample(file: InputFile, *, typed: bool) -> Iterator[Mapping[str, Any]]:
    table = MappedRows(file, RowMapping((), typed_header=typed))
    for row in islice(table, SAMPLE):
        if row.error is not None:
            continue
        try:
            yield opened(row.fields, row.layout.types if row.layout else {})
        except ContractError:
            continue
