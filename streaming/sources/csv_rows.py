"""Rows of a table in text (CSV and its kin) with the bytes they were read from."""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterator

from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import KEPT_OF_LONG, InputFile, TruncatedError
from streaming.sources.plain import Layout, PlainRow

_OPEN_QUOTE = 131_072
"""Characters that a cell over several lines may have. An open quote would swallow the rest of the file."""


def header_of(file: InputFile) -> Layout:
    """The columns of a table in text.

    Raises:
        SourceError: no header, or one that names a column twice.
    """
    cells = _cells(file, file.content.delimiter)
    _, _, header, error = next(cells, (b"", 0, [], None))
    if error is not None or not any(name.strip() for name in header):
        why = f" ({error})" if error is not None else ""
        msg = f"{file.path}: no header{why}; the first line must name the columns"
        raise SourceError(msg)
    names = [name.strip() or f"column_{place}" for place, name in enumerate(header, 1)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        msg = f"{file.path}: column {', '.join(twice)} is there twice; rename one"
        raise SourceError(msg)
    return Layout(tuple(names), file.content.delimiter)


def csv_rows(file: InputFile, layout: Layout, *, header: bool = True) -> Iterator[PlainRow]:
    """Rows by column name, all cells text. Empty lines are passed over.

    Args:
        file: to read.
        layout: its columns and delimiter.
        header: whether the first row names the columns.

    A row that is not UTF-8, has other than the header's number of cells, or is too long, comes with an error.
    A line whose quote is never closed does too, and the lines after it are read as rows.

    Raises:
        TruncatedError: at the end, when the file is cut short; all whole rows came before.
    """
    cells = _cells(file, layout.delimiter)
    if header:
        next(cells, None)
    blank = dict.fromkeys(layout.columns, "")
    for raw, line, row, error in cells:
        if error is None and len(row) != len(layout.columns):
            if not row or not raw.strip():
                continue
            msg = f"{len(row)} cells where the header names {len(layout.columns)} columns"
            error = ContractError("bad_csv_row", "", msg)  # noqa: PLW2901
        fields = {**blank, **dict(zip(layout.columns, row, strict=False))}
        yield PlainRow(fields, line, raw, error, layout)


def _cells(file: InputFile, delimiter: str) -> Iterator[tuple[bytes, int, list[str], ContractError | None]]:
    """Bytes, last line and cells of each row, the header first. Quoted line ends are read."""
    csv.field_size_limit(2**31 - 1)  # the limit is that of a row, in bytes
    lines = _Lines(file)
    rows = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        lines.taken.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            at, raw = lines.give_back()
            msg = f"line {at}: {error}; close the quote, or double it in a cell"
            yield raw, at, [], ContractError("bad_csv_row", "", msg)
            rows = csv.reader(
                lines, strict=True, delimiter=delimiter
            )  # the other has seen the lines given back
            continue
        if row is None:
            break
        at, raw = lines.taken[-1]
        if len(lines.taken) > 1:
            raw = b"\n".join(line for _, line in lines.taken)
        if len(raw) > file.limits.row_bytes:
            yield raw[:KEPT_OF_LONG], at, [], file.too_long(at)
        elif not raw.isascii() and (wrong := _not_utf8(raw)):
            yield raw, at, [_readable(cell) for cell in row], wrong
        else:
            yield raw, at, row, None
    if lines.cut is not None:
        raise lines.cut


class _OpenQuote(csv.Error):
    """A quote that is not closed within reason."""


class _Lines:
    """Lines for a CSV reader, which can be given back: an open quote must not swallow the rows after it.

    Attributes:
        taken: lines of the row that is being read, with their number.
        cut: that the file ends before its compression does; the lines before come first.
    """

    def __init__(self, file: InputFile) -> None:
        self._lines = file.text_lines()
        self._limit = file.limits.row_bytes
        self._again: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self.taken: list[tuple[int, bytes]] = []
        self.cut: TruncatedError | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._again:
            number, line = self._again.popleft()
        else:
            try:
                number, line = next(self._lines)
            except TruncatedError as error:
                self.cut = error
                raise StopIteration from None
        self._size = self._size + len(line) if self.taken else 0
        self.taken.append((number, line))
        if self._size > _OPEN_QUOTE:
            msg = f"a quote is not closed within {_OPEN_QUOTE:,} characters"
            raise _OpenQuote(msg)
        if len(line) > self._limit:
            return "\n"  # too long: the row ends here, and is refused by its bytes
        return line.decode("utf-8", "surrogateescape") + "\n"

    def give_back(self) -> tuple[int, bytes]:
        """Give back all lines of the row but the first, which is returned with its number."""
        self._again.extendleft(reversed(self.taken[1:]))
        return self.taken[0]


def _not_utf8(raw: bytes) -> ContractError | None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return ContractError("not_utf8", "", "not valid UTF-8; save the file in UTF-8")
    return None


def _readable(cell: str) -> str:
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
