"""The contract's own files: JSON with the three kinds mixed; CSV and Parquet with one kind each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import msgspec

from feature_repo.contract.columns import LAKE_ONLY
from feature_repo.contract.validation import Kind
from feature_repo.errors import SourceError
from streaming.sources import tables
from streaming.sources.column_types import column_types
from streaming.sources.csv_rows import csv_rows, header_of
from streaming.sources.files import InputFile
from streaming.sources.format import Format
from streaming.sources.json_rows import json_rows
from streaming.sources.parquet_rows import ParquetTable
from streaming.sources.plain import Layout, PlainRow
from streaming.sources.source import Raw, Row

_KEYS_SEEN = 1_000
_OBJECTS_SEEN = 20


class HeadraceSource:
    """JSON lines or an array, CSV and its kin (each also packed), and Parquet, told apart by content."""

    event_types: ClassVar[Mapping[str, float]] = {}

    def files(self, path: InputFile) -> list[InputFile]:
        """One file."""
        if path.path.is_dir():
            msg = f"{path.path}: a folder; give the files in it, e.g. {path.path}/*.jsonl"
            raise SourceError(msg)
        return [path]

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Objects of JSON; rows of a table with their cells typed."""
        match file.content.shape:
            case "parquet":
                return _parquet(file, kind)
            case "table":
                return _csv(file, kind)
        return _json(file, kind)

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """Nothing to translate."""
        return raw


def read_cells(raw: bytes, layout: Layout) -> dict[str, Any]:
    """The fields of a row of a table in text, as the source gave them: typed where its kind was decided."""
    cells = layout.cells(raw)
    return dict(cells) if layout.kind is None else tables.typed(cells, layout.kind, layout.types)


def _json(file: InputFile, kind: Kind | None) -> Iterator[Row]:
    found = None if kind is not None else _kind_of_objects(file)
    for row in json_rows(file):
        yield Row(row.fields, row.line, row.error) if found is None else _declared(row, found)


def _kind_of_objects(file: InputFile) -> Kind | None:
    """The kind of objects none of which says it; `None` where one does, or none is an object."""
    rows: list[PlainRow] = []
    with suppress(SourceError):  # where the file is cut, reading it tells
        rows.extend(islice(json_rows(file), _OBJECTS_SEEN))
    objects = [fields for row in rows if (fields := _object(row.fields))]
    if not objects or any("record" in fields for fields in objects):
        return None
    names = dict.fromkeys(name for fields in objects for name in fields)
    return tables.kind_of(file.path, names, None, lambda key: [str(fields.get(key)) for fields in objects])


def _object(raw: Any) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _declared(row: PlainRow, kind: Kind) -> Row:
    fields = _object(row.fields)
    if row.error is not None or not fields:
        return Row(row.fields, row.line, row.error)
    assert isinstance(row.fields, bytes)
    return Row({"record": kind, **fields}, row.line, None, row.fields, Layout((), kind=kind))


def _csv(file: InputFile, kind: Kind | None) -> Iterator[Row]:
    layout = header_of(file)

    def first(name: str) -> list[Any]:
        rows = islice(_readable(file, layout), _KEYS_SEEN)
        return [row.fields[name] for row in rows if not isinstance(row.fields, bytes) and row.error is None]

    kind = tables.kind_of(file.path, layout.columns, kind, first)
    types = _types(file, layout, kind)
    layout = replace(layout, kind=kind, types=types)
    for row in csv_rows(file, layout):
        assert not isinstance(row.fields, bytes)
        fields = row.fields if row.error is not None else tables.typed(row.fields, kind, types)
        yield Row(fields, row.line, row.error, row.kept, layout)


def _types(file: InputFile, layout: Layout, kind: Kind) -> dict[str, str]:
    """The types of the columns that are not text, by a first pass over the file where any may be."""
    columns, comma = tables.further(layout.columns, kind), layout.delimiter == ";"
    numbers = [name for name in ("price",) if comma and name in layout.columns and kind == "item"]
    if not columns and not numbers:
        return {}
    return column_types(_readable(file, layout), columns, numbers, comma=comma)


def _readable(file: InputFile, layout: Layout) -> Iterator[PlainRow]:
    """The rows as far as the file can be read; that it is cut is told when they are ingested."""
    with suppress(SourceError):
        yield from csv_rows(file, layout)


def _parquet(file: InputFile, kind: Kind | None) -> Iterator[Row]:
    table = ParquetTable(file)
    kind = tables.kind_of(file.path, table.schema.names, kind, lambda name: table.head(name, _KEYS_SEEN))
    tables.check_types(file.path, table.schema, kind)
    for row in table.rows():
        fields = row.fields if isinstance(row.fields, bytes) else _present(row.fields, kind)
        yield Row(fields, row.line, row.error)


def _present(fields: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """The cells that hold something, with Arrow's maps and lists of pairs as mappings."""
    present = {name: value for name, value in fields.items() if value is not None and name not in LAKE_ONLY}
    for name in ("properties", "attributes"):
        if isinstance(value := present.get(name), list):
            present[name] = dict(tables.pair(entry) for entry in value)
        elif isinstance(value, dict):
            present[name] = {k: v for k, v in value.items() if v is not None}
    present.setdefault("record", kind)
    return {**present, **tables.decoded(present)}


FORMAT = Format("Records of the contract: JSON lines, CSV, TSV or Parquet.", lambda known: HeadraceSource())
