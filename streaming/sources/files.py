"""Reading files as lines: plain, ``.gz`` and ``.zip``; a file cut short gives all its whole lines first."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from feature_repo.errors import ContractError, SourceError

_CHUNK = 1 << 20
_GZIP = 31  # window bits of zlib: a gzip header is expected


class TruncatedError(SourceError):
    """A file ends before its compression does.

    Attributes:
        rest: the bytes after the last whole line.
        line: the line they stand on.
    """

    def __init__(self, message: str, rest: bytes, line: int) -> None:
        super().__init__(message)
        self.rest = rest
        self.line = line


class InputFile:
    """A file being read, and how far.

    Attributes:
        path: of the file.
        size: in bytes, as stored.
        done: bytes read so far, as stored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.size = path.stat().st_size
        except OSError as error:
            why = "no such file or folder" if isinstance(error, FileNotFoundError) else error.strerror
            msg = f"{path}: {why}; give the path of an existing file"
            raise SourceError(msg) from error
        self.done = 0

    @property
    def suffix(self) -> str:
        """The format by name: ``.csv`` for ``ratings.csv.gz``."""
        name = self.path.name.lower()
        for packed in (".gz", ".zip"):
            name = name.removesuffix(packed)
        return Path(name).suffix

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Lines with their number from 1, without the line end.

        Raises:
            SourceError: unreadable, empty, or no such archive.
            TruncatedError: after the last whole line.
        """
        if self.size == 0:
            msg = f"{self.path}: empty file; nothing to ingest"
            raise SourceError(msg)
        try:
            with self.path.open("rb") as file:
                yield from self._lines(file)
        except OSError as error:
            msg = f"{self.path}: cannot read ({error.strerror or error})"
            raise SourceError(msg) from error

    def _lines(self, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        number, rest, cut = 0, b"", ""
        chunks = self._chunks(file)
        while True:
            try:
                chunk = next(chunks, None)
            except (EOFError, zlib.error, zipfile.BadZipFile) as error:
                cut = str(error)
                break
            if chunk is None:
                break
            parts = (rest + chunk).split(b"\n")
            rest = parts.pop()
            for part in parts:
                number += 1
                yield number, part
        if cut:
            msg = (
                f"{self.path}: truncated or damaged after line {number} ({cut}); "
                "the lines before it were read; fetch the file again"
            )
            raise TruncatedError(msg, rest, number + 1)
        if rest:
            yield number + 1, rest

    def _chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        match self.path.suffix.lower():
            case ".gz":
                yield from self._gunzip(file)
            case ".zip":
                yield from self._unzip(file)
            case _:
                while chunk := file.read(_CHUNK):
                    self.done += len(chunk)
                    yield chunk

    def _gunzip(self, file: IO[bytes]) -> Iterator[bytes]:
        # zlib and not gzip.open: that keeps back what it had decoded before the cut.
        stream = zlib.decompressobj(_GZIP)
        packed = b""
        while packed := packed or file.read(_CHUNK):
            if stream.eof:
                stream = zlib.decompressobj(_GZIP)
            yield stream.decompress(packed)
            self.done = file.tell()
            packed = stream.unused_data.lstrip(b"\0") if stream.eof else b""
        if not stream.eof:
            msg = "the gzip stream has no end"
            raise EOFError(msg)

    def _unzip(self, file: IO[bytes]) -> Iterator[bytes]:
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            msg = f"{self.path}: not a whole zip archive ({error}); fetch the file again"
            raise SourceError(msg) from error
        names = [n for n in archive.namelist() if not n.endswith("/")]
        if len(names) != 1:
            msg = f"{self.path}: holds {len(names)} files ({', '.join(names[:5])}); an archive of one is read"
            raise SourceError(msg)
        try:
            member = archive.open(names[0])
        except (RuntimeError, NotImplementedError) as error:  # it wants a password, or a method unknown here
            msg = f"{self.path}: cannot unpack ({error}); unpack it and give the file"
            raise SourceError(msg) from error
        with member:
            while chunk := member.read(_CHUNK):
                self.done = min(file.tell(), self.size)
                yield chunk

    def cells(self) -> Iterator[tuple[int, list[str], ContractError | None]]:
        """Rows of a CSV file with the line they end on; the first is the header. Quoted line ends are read.

        A row that is not UTF-8 comes with an error and its bytes as backslash escapes. A line whose quote is
        never closed comes with an error as one cell, and the lines after it are read again as rows.
        """
        lines = _Lines(self.lines())
        rows = csv.reader(lines, strict=True)
        while True:
            lines.taken.clear()
            try:
                row = next(rows, None)
            except csv.Error as error:
                at, line = lines.give_back()
                msg = f"line {at}: {error}; close the quote, or double it in a cell"
                yield at, [_readable(line)], ContractError("bad_csv_row", "", msg)
                rows = csv.reader(lines, strict=True)  # the one that failed has seen the lines given back
                continue
            if row is None:
                break
            at = lines.taken[-1][0]
            if any(not cell.isascii() and _escaped(cell) for cell in row):
                msg = "not valid UTF-8; save the file in UTF-8"
                yield at, [_readable(cell) for cell in row], ContractError("not_utf8", "", msg)
            else:
                yield at, row, None
        if lines.cut is not None:
            raise lines.cut

    def records(self) -> Iterator[tuple[int, dict[str, str], ContractError | None]]:
        """Rows of a CSV file by the names of its header, with their line."""
        rows = self.cells()
        _, header, error = next(rows, (0, [], None))
        if error is not None or not any(header):
            msg = f"{self.path}: no header; the first line must name the columns"
            raise SourceError(msg)
        header = [name.strip().removeprefix("\ufeff") for name in header]
        for line, row, bad in rows:
            fields = {**dict.fromkeys(header, ""), **dict(zip(header, row, strict=False))}
            if bad is not None and bad.code == "bad_csv_row":
                yield line, {**dict.fromkeys(header, ""), "_cells": row[0]}, bad
            elif bad is None and len(row) not in (0, len(header)):
                msg = f"{len(row)} cells where the header names {len(header)} columns"
                yield line, {**fields, "_cells": ",".join(row)}, ContractError("bad_csv_row", "", msg)
            elif row:
                yield line, fields, bad


class _Lines:
    """Lines for a CSV reader, which can be given back: an open quote must not swallow the rows after it.

    Attributes:
        taken: lines of the row that is being read, with their number.
        cut: that the file ends before its compression does; the lines before come first.
    """

    def __init__(self, lines: Iterator[tuple[int, bytes]]) -> None:
        self._lines = lines
        self._again: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []
        self.cut: TruncatedError | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._again:
            self.taken.append(self._again.popleft())
        else:
            try:
                number, line = next(self._lines)
            except TruncatedError as error:
                self.cut = error
                raise StopIteration from None
            self.taken.append((number, line.decode("utf-8", "surrogateescape") + "\n"))
        return self.taken[-1][1]

    def give_back(self) -> tuple[int, str]:
        """Give back all lines of the row but the first, which is returned with its number."""
        self._again.extendleft(reversed(self.taken[1:]))
        return self.taken[0]


def _readable(cell: str) -> str:
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _escaped(cell: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in cell)
