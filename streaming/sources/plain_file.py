"""Any file as plain rows: by column and before any contract.

For example, whatever the kind of file::

    file = PlainFile(InputFile(Path("export.csv")))
    file.columns    # ("ts", "uid", "sku"); None for JSON, whose objects name their own
    for row in file.rows():
        row.line, row.fields, row.kept    # 2, {"ts": "2024-06-01", "sku": "02138", …}, b"2024-06-01,…"
"""

from __future__ import annotations

from collections.abc import Iterator

from streaming.sources.csv_rows import csv_rows, header_of
from streaming.sources.files import InputFile
from streaming.sources.json_rows import json_rows
from streaming.sources.parquet_rows import ParquetTable
from streaming.sources.plain import PlainRow


class PlainFile:
    """A file of any kind. `rows` may be called several times; each reads the file from its beginning.

    Attributes:
        columns: of a table; `None` for JSON.

    Raises:
        SourceError: the file is nothing that is read here.
    """

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._parquet: ParquetTable | None = None
        match file.content.shape:
            case "parquet":
                self._parquet = ParquetTable(file)
                self.columns: tuple[str, ...] | None = tuple(self._parquet.schema.names)
            case "table":
                self._layout = header_of(file)
                self.columns = self._layout.columns
            case _:
                self.columns = None

    def rows(self) -> Iterator[PlainRow]:
        """The rows; those that cannot be read come with an error.

        Raises:
            SourceError: the file cannot be read on, or exceeds a limit.
            TruncatedError: at the end, when the file is cut short; all whole rows came before.
        """
        if self._parquet is not None:
            return self._parquet.rows()
        return json_rows(self._file) if self.columns is None else csv_rows(self._file, self._layout)
