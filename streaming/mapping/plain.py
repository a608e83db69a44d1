"""Plain rows of a file for a mapping, including tables without a header or with typed headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from feature_repo.errors import SourceError
from streaming.mapping.model import RowMapping
from streaming.sources.column_types import column_types
from streaming.sources.csv_rows import csv_rows, header_of
from streaming.sources.files import InputFile
from streaming.sources.plain import Layout, PlainRow
from streaming.sources.plain_file import PlainFile
from streaming.sources.source import fields_of

_SEQUENCE = "seq"
HEADER_TYPES = {"token": None, "float": "number", "token_seq": _SEQUENCE, "float_seq": _SEQUENCE}


class MappedRows:
    """The plain rows of a file, as its mapping reads it.

    Attributes:
        columns: column names of a table; `None` for JSON.

    Raises:
        SourceError: the file's format is unsupported, or its header does not match the mapping.
    """

    def __init__(self, file: InputFile, mapping: RowMapping) -> None:
        self._file = file
        self._layout: Layout | None = None
        self._headless = bool(mapping.columns)
        self._says_types = mapping.typed_header
        self._plain: PlainFile | None = None
        if file.content.shape == "table":
            self._layout = self._table(file, mapping)
            self.columns: tuple[str, ...] | None = self._layout.columns
        else:
            self._plain = PlainFile(file)
            self.columns = self._plain.columns

    @staticmethod
    def _table(file: InputFile, mapping: RowMapping) -> Layout:
        if mapping.columns:
            return Layout(mapping.columns, file.content.delimiter)
        layout = header_of(file)
        return _typed(layout, file) if mapping.typed_header else layout

    def typed(self, columns: Iterable[str], rows: int | None = None) -> None:
        """Find which columns of a text table are numbers, reading the whole file or its first `rows`."""
        layout = self._layout
        if layout is None or self._says_types:
            return
        if wanted := [c for c in columns if c in layout.columns]:
            types = column_types(
                islice(self._readable(layout), rows), wanted, (), comma=layout.delimiter == ";"
            )
            self._layout = replace(layout, types=types)

    @property
    def types(self) -> Mapping[str, str]:
        """Return the types of the columns that are not text."""
        return self._layout.types if self._layout is not None else {}

    def __iter__(self) -> Iterator[PlainRow]:
        if self._plain is not None:
            return self._plain.rows()
        assert self._layout is not None
        return csv_rows(self._file, self._layout, header=not self._headless)

    def _readable(self, layout: Layout) -> Iterator[PlainRow]:
        with suppress(SourceError):  # truncation is reported when the rows are ingested
            yield from csv_rows(self._file, layout, header=not self._headless)


def opened(raw: Mapping[str, Any] | bytes, types: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a row, with JSON text decoded and multi-word columns as lists.

    Raises:
        ContractError: the text is not a JSON object.
    """
    fields = fields_of(raw)
    for name, kind in types.items():
        if kind == _SEQUENCE and isinstance(fields.get(name), str):
            fields[name] = fields[name].split()
    return fields


def _typed(layout: Layout, file: InputFile) -> Layout:
    """Split a header of names with types, as in RecBole's atomic files."""
    names, types = [], {}
    for column in layout.columns:
        name, colon, kind = column.rpartition(":")
        if not colon or kind not in HEADER_TYPES:
            msg = f"{file.path}: column {column!r} has no type; a typed header looks like user_id:token"
            raise SourceError(msg)
        names.append(name)
        if found := HEADER_TYPES[kind]:
            types[name] = found
    return replace(layout, columns=tuple(names), types=types)
