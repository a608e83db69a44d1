"""JSON records as bytes: one a line, the elements of one array, or objects over several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from feature_repo.errors import SourceError
from streaming.sources.files import KEPT_OF_LONG, InputFile, TruncatedError
from streaming.sources.plain import PlainRow

_SPACE = b" \t\r\n,"
_TOKEN = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"|"|[\[\]{},]', re.DOTALL
)  # possessive: an open string costs one pass


def json_rows(file: InputFile) -> Iterator[PlainRow]:
    """The records of a JSON file, not decoded. Empty lines are passed over.

    Raises:
        SourceError: a record of an array is over the limit.
        TruncatedError: at the end, when the file is cut short; all whole records came before.
    """
    if file.content.shape == "lines":
        limit = file.limits.row_bytes
        for number, line in file.text_lines():
            if len(line) > limit:
                yield PlainRow(line[:KEPT_OF_LONG], number, None, file.too_long(number))
            elif line.strip():
                yield PlainRow(line, number)
        return
    elements = _Elements(file, depth=1 if file.content.shape == "array" else 0)
    for number, raw in enumerate(elements, 1):
        yield PlainRow(raw, number)


class _Elements:
    """The elements of one array, or the objects of a file, split by brackets and strings alone.

    So an element that is not valid JSON costs itself only, as long as its brackets match.

    Args:
        depth: brackets around an element: 1 in an array, else 0.
    """

    def __init__(self, file: InputFile, depth: int) -> None:
        self._file = file
        self._base = depth
        self._depth = 0
        self._number = 0
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        buffer, at = b"", 0  # `at`: up to where the buffer was looked through
        for piece in self._pieces():
            buffer += piece
            start, at, ends = self._split(buffer, at)
            for begin, end in ends:
                if raw := buffer[begin:end].strip(_SPACE):
                    self._number += 1
                    yield raw
            buffer, at = buffer[start:], at - start
            if self._ended:
                break
            if len(buffer) > self._file.limits.row_bytes:
                raise self._too_long()
        if rest := buffer.strip(_SPACE):
            why = "more after the end of the array" if self._ended else "the last record has no end"
            raise self._cut(why, rest)

    def _split(self, buffer: bytes, at: int) -> tuple[int, int, list[tuple[int, int]]]:
        """Where the first open element begins, how far the buffer was looked through, and whole elements."""
        start = 0
        found: list[tuple[int, int]] = []
        for token in _TOKEN.finditer(buffer, at):
            sign, at = token.group(), token.end()
            if sign == b'"':  # a string that goes on in the next piece
                return start, token.start(), found
            if sign in (b"{", b"["):
                start = at if self._depth < self._base else start
                self._depth += 1
            elif sign == b"]" and self._depth == self._base == 1:
                self._ended = True
                found.append((start, at - 1))
                return at, at, found
            elif sign in (b"}", b"]") and self._depth > self._base:  # else it is one too many
                self._depth -= 1
                if self._depth == self._base == 0:
                    found.append((start, at))
                    start = at
            elif sign == b"," and self._depth == self._base:
                found.append((start, at - 1))
                start = at
        return start, len(buffer), found

    def _pieces(self) -> Iterator[bytes]:
        try:
            yield from self._file.text()
        except SourceError:
            raise
        except Exception as error:  # of any of the decompressors
            raise self._cut(str(error), b"") from error

    def _cut(self, why: str, rest: bytes) -> TruncatedError:
        msg = (
            f"{self._file.path}: truncated or damaged after record {self._number} ({why}); "
            "the records before it were read; fetch the file again"
        )
        return TruncatedError(msg, rest[:KEPT_OF_LONG], self._number + 1)

    def _too_long(self) -> SourceError:
        msg = (
            f"{self._file.path}: record {self._number + 1} is longer than "
            f"{self._file.limits.row_bytes:,} bytes, the limit HEADRACE_INGEST_ROW_BYTES; "
            "raise it, or write one JSON object a line"
        )
        return SourceError(msg)
