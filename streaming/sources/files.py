"""A file being read: its bytes unpacked, as lines; one that is cut short gives all its whole lines first."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from feature_repo.errors import ContractError, SourceError
from streaming.sources.content import Content, recognize
from streaming.sources.packing import DAMAGED, PACKED_SUFFIXES, Limits, unpack

SAMPLE = 1 << 16
"""Bytes looked at to see what a file is."""
KEPT_OF_LONG = 1 << 16
"""Bytes quarantine keeps of a line over the limit."""
_BLANK_BLOCK = 1 << 16


class TruncatedError(SourceError):
    """A file ends before its compression, or its last record, does.

    Attributes:
        rest: the bytes after the last whole line.
        line: the line they are on.
    """

    def __init__(self, message: str, rest: bytes, line: int) -> None:
        super().__init__(message)
        self.rest = rest
        self.line = line


class InputFile:
    """A file being read, and how far.

    Attributes:
        path: of the file.
        limits: what it may cost.
        size: in bytes, as stored.
        done: bytes read so far, as stored.
        records_hold_lists: whether one JSON object with a list inside is a record, not a wrapper of records.
        name: what it is called in messages and in quarantine.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        self.records_hold_lists = False
        self.name = str(path)
        try:
            self.size = path.stat().st_size
        except OSError as error:
            why = "no such file or folder" if isinstance(error, FileNotFoundError) else error.strerror
            msg = f"{path}: {why}; give the path of an existing file"
            raise SourceError(msg) from error
        self.done = 0

    def named(self, text: str) -> str:
        """A message with what the file is called in the place of its path."""
        return text.replace(str(self.path), self.name)

    @property
    def suffix(self) -> str:
        """The format by name: ``.csv`` for ``ratings.csv.gz``. Content decides; this is a hint."""
        name = self.path.name.lower()
        for packed in PACKED_SUFFIXES:
            name = name.removesuffix(packed)
        return Path(name).suffix

    @cached_property
    def sample(self) -> bytes:
        """The first bytes, unpacked.

        Raises:
            SourceError: unreadable, empty, or no such archive.
        """
        found = b""
        try:
            for piece in self._pieces():
                found += piece
                if len(found) >= SAMPLE:
                    break
        except DAMAGED:  # reading it in full tells where it is cut
            pass
        self.done = 0
        return found[:SAMPLE]

    @cached_property
    def content(self) -> Content:
        """What the file is, seen from its first bytes.

        Raises:
            SourceError: unreadable, empty, or nothing that is read here; says what it is.
        """
        return recognize(self.path, self.sample, self.suffix, lists=self.records_hold_lists)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Lines with their number from 1, without the line end, as they are in the file.

        A line over the limit is cut: it has one byte more than `Limits.row_bytes`. Of a large block of empty
        lines none is given.

        Raises:
            SourceError: unreadable, empty, or no such archive.
            TruncatedError: after the last whole line.
        """
        return self._split(self._pieces(), b"\n")

    def text_lines(self) -> Iterator[tuple[int, bytes]]:
        """As `lines`, in UTF-8 without a byte-order mark, whatever the encoding and the line ends.

        Bytes that are no text in the file's encoding come as bytes that are no UTF-8.
        """
        return self._split(self.text(), self.content.newline)

    def text(self) -> Iterator[bytes]:
        """The file in UTF-8, a piece at a time, without a byte-order mark."""
        content, first = self.content, True
        decoder = None
        if content.encoding != "utf-8":
            decoder = codecs.getincrementaldecoder(content.encoding)("surrogatepass")
        for piece in self._pieces():
            part = piece
            if first:
                part, first = part[content.mark :], False
            yield part if decoder is None else decoder.decode(part).encode("utf-8", "surrogatepass")
        if decoder is not None:
            yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")

    def too_long(self, number: int) -> ContractError:
        """Why a line or row is not read that is longer than the limit."""
        msg = (
            f"line {number}: longer than {self.limits.row_bytes:,} bytes, the limit "
            f"HEADRACE_INGEST_ROW_BYTES; raise it, or shorten the record "
            f"(its first {KEPT_OF_LONG:,} bytes are kept)"
        )
        return ContractError("row_too_long", "", msg)

    def _pieces(self) -> Iterator[bytes]:
        if self.path.is_file() and self.size == 0:
            msg = f"{self.path}: empty file; nothing to ingest"
            raise SourceError(msg)
        try:
            file = self.path.open("rb")
        except OSError as error:
            msg = f"{self.path}: cannot read ({error.strerror or error})"
            raise SourceError(msg) from error
        with file:
            yield from unpack(file, self.path, self.limits, self._read)

    def _read(self, done: int) -> None:
        self.done = min(done, self.size)

    def _split(self, pieces: Iterator[bytes], end: bytes) -> Iterator[tuple[int, bytes]]:
        limit = self.limits.row_bytes
        number, rest, long = 0, b"", False
        while True:
            try:
                piece = next(pieces, None)
            except DAMAGED as error:
                msg = (
                    f"{self.path}: truncated or damaged after line {number} ({error}); "
                    "the lines before it were read; fetch the file again"
                )
                raise TruncatedError(msg, rest, number + 1) from error
            if piece is None:
                break
            if long:
                _, ended, piece = piece.partition(end)
                if not ended:
                    continue
                number, long = number + 1, False
                yield number, rest
                rest = b""
            if not rest and len(piece) >= _BLANK_BLOCK and not piece.strip(b"\r\n"):
                number += piece.count(end)
                continue
            parts = (rest + piece).split(end)
            rest = parts.pop()
            for part in parts:
                number += 1
                yield number, part if len(part) <= limit else part[: limit + 1]
            if len(rest) > limit:
                rest, long = rest[: limit + 1], True
        if rest:
            yield number + 1, rest
