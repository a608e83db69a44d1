"""Plain rows: what any file holds, by column and before any contract, with the bytes each was read from.

`streaming.sources.plain_file` opens a file as such.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feature_repo.contract.records import Kind
from feature_repo.errors import ContractError


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bytes of a table's row are read.

    Attributes:
        columns: their names, in order; none where the row is a JSON object.
        delimiter: between cells.
        kind: of record that a row is, where it was decided.
        types: of columns that are not text: see `streaming.sources.column_types`.
    """

    columns: tuple[str, ...]
    delimiter: str = ","
    kind: Kind | None = None
    types: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "columns": list(self.columns),
            "delimiter": self.delimiter,
            "kind": self.kind,
            "types": dict(self.types),
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Layout:
        """Back from `fields`."""
        return cls(tuple(fields["columns"]), fields["delimiter"], fields["kind"], fields["types"])

    def cells(self, raw: bytes) -> dict[str, str]:
        """The cells of a row by column, all text.

        Raises:
            ContractError: it is no row.
        """
        csv.field_size_limit(2**31 - 1)
        text = raw.decode("utf-8", "backslashreplace")
        try:
            row = next(csv.reader([text + "\n"], delimiter=self.delimiter, strict=True), [])
        except csv.Error as error:
            raise ContractError("bad_csv_row", "", str(error)) from error
        return {**dict.fromkeys(self.columns, ""), **dict(zip(self.columns, row, strict=False))}


@dataclass(frozen=True, slots=True)
class PlainRow:
    """One row of a file.

    Attributes:
        fields: value by column: text in CSV, else as typed in the file; JSON text not decoded yet.
        line: last line of a text file, row of a Parquet file, object of a JSON array; from 1.
        kept: the bytes of the row as in the file; `None` where the values are all there is (Parquet).
        error: why it cannot be read, else `None`.
        layout: to read `kept` again, for rows that do not say themselves what they are.
    """

    fields: Mapping[str, Any] | bytes
    line: int
    kept: bytes | None = None
    error: ContractError | None = None
    layout: Layout | None = None
