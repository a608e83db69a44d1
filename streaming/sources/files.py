"""Reading files as lines: plain, ``.gz`` and ``.zip``; a file cut short gives all its whole lines first."""

from __future__ import annotations

import csv
import zipfile
import zlib
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

        A row that is not UTF-8 comes with an error and its bytes as backslash escapes; lines that are no row
        come with an error as one cell.
        """
        at = 0
        lines: list[str] = []

        def text() -> Iterator[str]:
            nonlocal at
            for number, line in self.lines():
                at = number
                lines.append(line.decode("utf-8", "surrogateescape") + "\n")
                yield lines[-1]

        reader = csv.reader(text())
        while True:
            lines.clear()
            try:
                row = next(reader, None)
            except csv.Error as error:
                msg = f"lines {at - len(lines) + 1} to {at}: {error}; close the quote, or double it in a cell"
                yield at, [_readable("".join(lines))], ContractError("bad_csv_row", "", msg)
                continue
            if row is None:
                return
            if any(not cell.isascii() and _escaped(cell) for cell in row):
                msg = "not valid UTF-8; save the file in UTF-8"
                yield at, [_readable(cell) for cell in row], ContractError("not_utf8", "", msg)
            else:
                yield at, row, None

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


def _readable(cell: str) -> str:
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _escaped(cell: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in cell)
