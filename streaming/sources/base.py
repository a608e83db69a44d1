"""What a file format offers: rows as they stand in the file, and their translation into the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec
import xxhash

from feature_repo.batch import as_json
from feature_repo.contract import Kind, json_type, not_json
from feature_repo.errors import ContractError
from feature_repo.reasons import shown
from streaming.sources.files import InputFile

Fields: TypeAlias = Mapping[str, Any]
Raw: TypeAlias = bytes | Fields
"""A row as it stands in the file: a line of text, or the cells of a table's row by column."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Attributes:
        raw: as it stands there.
        line: line of a text file, row of a table; from 1.
        error: why the row cannot even be split into fields, else `None`.
    """

    raw: Raw
    line: int
    error: ContractError | None = None


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


def raw_bytes(raw: Raw) -> bytes:
    """The bytes quarantine keeps of a row; cells of a table as one JSON object."""
    return raw if isinstance(raw, bytes) else as_json(dict(raw))


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
