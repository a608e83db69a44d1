"""What a file format offers: rows as they stand in the file, and their translation into the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec
import xxhash

from feature_repo.contract.attribute import attribute
from feature_repo.contract.json_batch import as_json
from feature_repo.contract.reasons import shown
from feature_repo.contract.validation import Kind, json_type, not_json
from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import InputFile
from streaming.sources.plain import Layout
from streaming.sources.plain_file import PlainFile

Fields: TypeAlias = Mapping[str, Any]
Raw: TypeAlias = bytes | Fields
"""A row as it is in the file: a line of text, or the cells of a table's row by column."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Attributes:
        raw: as it is there, or its cells by column.
        line: line of a text file, row of a table; from 1.
        error: why the row cannot even be split into fields, else `None`.
        kept: its bytes in the file, where `raw` is not that.
        layout: how `kept` is read again, where the row does not say itself what it is.
        origin: the row as it is in the file, where `raw` is a record made of it.
    """

    raw: Raw
    line: int
    error: ContractError | None = None
    kept: bytes | None = None
    layout: Layout | None = None
    origin: Raw | None = None

    @property
    def original(self) -> bytes:
        """The bytes quarantine keeps."""
        return raw_bytes(self.raw if self.origin is None else self.origin) if self.kept is None else self.kept


def table_rows(file: InputFile, columns: str, fmt: str) -> Iterator[Row]:
    """Rows of a table in text or Parquet, for a format that has no other files.

    Args:
        file: to read.
        columns: what the format expects, for the message.
        fmt: name of the format.

    Raises:
        SourceError: the file is JSON.
    """
    plain = PlainFile(file)
    if plain.columns is None:
        msg = f"{file.path}: JSON, where {fmt} is a table with columns {columns}; is --format right?"
        raise SourceError(msg)
    for row in plain.rows():
        yield Row(row.fields, row.line, row.error, row.kept, row.layout)


def object_rows(file: InputFile, fmt: str) -> Iterator[Row]:
    """Objects of a JSON file, for a format that has no other files.

    Raises:
        SourceError: the file is a table.
    """
    plain = PlainFile(file)
    if plain.columns is not None:
        msg = f"{file.path}: a table, where {fmt} is JSON lines; is --format right?"
        raise SourceError(msg)
    for row in plain.rows():
        yield Row(row.fields, row.line, row.error)


class Source(Protocol):
    """A file format. Deterministic: the same row always becomes the same record with the same id."""

    @property
    def event_types(self) -> Mapping[str, float]:
        """Event types beyond the built-in ones that this format brings, with their weights."""
        ...

    def files(self, path: InputFile) -> list[InputFile]:
        """The files of a path, in the order to read them: itself, or those of a folder."""
        ...

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Rows of a file, lazily.

        Raises:
            SourceError: the file as a whole is not of this format.
            TruncatedError: at the end, when the file is cut short; all whole rows came before.
        """
        ...

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """A row as the contract wants it (`Contract.parse` then validates).

        Raises:
            ContractError: the row lacks what the format needs.
        """
        ...


@runtime_checkable
class Noting(Protocol):
    """A format that leaves out what it was asked to, and says so."""

    def notes(self) -> tuple[str, ...]:
        """What was left out so far, as sentences."""
        ...


def raw_bytes(raw: Raw) -> bytes:
    """The bytes quarantine keeps of a row; cells of a table as one JSON object."""
    if isinstance(raw, bytes):
        return raw
    # A decimal number stays a number, so that it is one when the row is read again.
    exact = {n: float(v) if isinstance(v, Decimal) and attribute(v) == v else v for n, v in raw.items()}
    return as_json(exact)


def fields_of(raw: Raw) -> dict[str, Any]:
    """A row as a mapping: cells as they are, JSON text decoded.

    Raises:
        ContractError: the text is no JSON object.
    """
    if not isinstance(raw, bytes):
        return dict(raw)
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise not_json(raw, error) from error
    if not isinstance(value, dict):
        msg = f"a JSON {json_type(value)} where an object belongs; write one JSON object per line"
        raise ContractError("not_an_object", "", msg)
    return value


def required(fields: Fields, name: str) -> str:
    """A field that must be there, as text.

    Raises:
        ContractError: it is absent, empty, an object or an array.
    """
    value = fields.get(name)
    if value is None or value == "":
        msg = f"{name}: required and absent"
        raise ContractError("missing_field", name, msg)
    if isinstance(value, dict | list):
        msg = f"{name}: {shown(value)} where text belongs"
        raise ContractError("wrong_type", name, msg)
    return str(value)


def epoch_seconds(fields: Fields, name: str) -> int:
    """A required field of epoch seconds, as epoch milliseconds.

    Raises:
        ContractError: it is absent or no number.
    """
    value = required(fields, name)
    try:
        return round(float(value) * 1000)
    except (ValueError, OverflowError) as error:
        msg = f"{name}: {value!r} is no time in epoch seconds; 2024-01-01 is 1704067200"
        raise ContractError("bad_value", name, msg) from error


def identity(*parts: object) -> str:
    """An id made of what identifies a row, for formats whose rows have none."""
    return xxhash.xxh3_128_hexdigest("\0".join(map(str, parts)).encode())
