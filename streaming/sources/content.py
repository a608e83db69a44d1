"""What a file is, seen from its first bytes and not from its name."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from feature_repo.errors import SourceError

Shape: TypeAlias = Literal["lines", "array", "documents", "table", "parquet"]
"""JSON: an object a line, one array of objects, objects over several lines. Tables: text, or Parquet."""

DELIMITERS = (",", "\t", ";", "|")
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".psv"})

_BINARY: tuple[tuple[int, bytes, str], ...] = (
    (0, b"Obj\x01", "an Avro file; write it as Parquet or JSON lines"),
    (0, b"ORC", "an ORC file; write it as Parquet"),
    (0, b"ARROW1", "an Arrow (Feather) file; write it as Parquet"),
    (0, b"SQLite format 3\0", "an SQLite database; export the table as CSV"),
    (8, b"DUCK", "a DuckDB database; export the table as Parquet"),
    (0, b"\xd0\xcf\x11\xe0", "an old Excel or Office file; save the table as CSV"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89HDF", "an HDF5 file; write it as Parquet"),
    (0, b"\x93NUMPY", "a NumPy array; write it as Parquet"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (0, b"Rar!", "a RAR archive; unpack it"),
    (0, b"\x1f\x9d", "a file packed by compress (.Z); unpack it"),
    (0, b"\x04\x22\x4d\x18", "a file packed by lz4; unpack it"),
    (0, b"\xff\x06\x00\x00sNaPpY", "a file packed by Snappy; unpack it"),
    (257, b"ustar", "a tar archive; unpack it and give the files in it"),
    (0, b"\x1f\x8b", "gzip inside a packed file; unpack it once"),
    (0, b"BZh", "bzip2 inside a packed file; unpack it once"),
    (0, b"\xfd7zXZ\0", "xz inside a packed file; unpack it once"),
    (0, b"\x28\xb5\x2f\xfd", "zstd inside a packed file; unpack it once"),
    (0, b"PK\x03\x04", "a zip archive inside a packed file; unpack it once"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_RECORD_FIELDS = frozenset(
    {"record", "event", "event_id", "event_type", "item_id", "user_id", "item", "user", "id"}
)
_OWN_LISTS = (b"items", b"fields")
_RECORD = re.compile(rb'"(%s)"\s*:' % "|".join(sorted(_RECORD_FIELDS)).encode())
_PLAIN_FIELDS = re.compile(rb'\s*\{(?:\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-\w.+]+)\s*,)*')
_LIST_FIELD = re.compile(rb'[{,]\s*"([^"\\]+)"\s*:\s*\[\s*\{')
_CONTROLS = bytes((*range(9), *range(14, 27), *range(28, 32)))
_FEW, _MANY = 0.01, 0.3
_LINES_SEEN = 50


@dataclass(frozen=True)
class Content:
    """What a file is.

    Attributes:
        shape: how its records are told apart.
        encoding: of its text.
        mark: length of the byte-order mark.
        newline: how a line ends, in UTF-8.
        delimiter: between the cells of a table.
    """

    shape: Shape
    encoding: str = "utf-8"
    mark: int = 0
    newline: bytes = b"\n"
    delimiter: str = ","


def recognize(path: Path, sample: bytes, suffix: str, *, lists: bool = False) -> Content:
    """What a file is.

    Args:
        path: for messages.
        sample: its first bytes, unpacked.
        suffix: of its name, which decides where the content leaves a doubt.
        lists: whether a single object may hold a list and be a record all the same.

    Raises:
        SourceError: nothing that is read here; says what it is, and what to do.
    """
    if sample.startswith(b"PAR1") or (suffix in PARQUET_SUFFIXES and b"\0" in sample):
        return Content("parquet")
    for at, magic, what in _BINARY:
        if sample[at:].startswith(magic):
            msg = f"{path}: {what}"
            raise SourceError(msg)
    encoding, mark = _encoding(sample)
    if encoding == "utf-8":
        text = sample[mark:]
        few = _MANY if text.lstrip().startswith((b"{", b"[")) else _FEW  # records may hold a few odd bytes
        if len(text) - len(text.translate(None, _CONTROLS)) > len(text) * few:
            msg = f"{path}: binary data of no kind that is read here; give JSON lines, CSV or Parquet"
            raise SourceError(msg)
    else:
        text = sample[mark:].decode(encoding, "ignore").encode()
    newline = b"\r" if b"\r" in text and b"\n" not in text else b"\n"
    lines = [line for line in text.replace(b"\r", b"\n").split(b"\n") if line.strip()][:_LINES_SEEN]
    try:
        shape, delimiter = _shape(path, text.lstrip()[:1], lines, suffix, lists=lists)
    except SourceError:
        if suffix in PARQUET_SUFFIXES:
            return Content("parquet")  # damaged from its first byte on: opening it says so
        raise
    return Content(shape, encoding, mark, newline, delimiter)


def _encoding(sample: bytes) -> tuple[str, int]:
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name, len(mark)
    even, odd = sample[::2], sample[1::2]
    if odd and odd.count(0) > _MANY * len(odd) and even.count(0) < _MANY * len(even) / 10:
        return "utf-16-le", 0
    if even and even.count(0) > _MANY * len(even) and odd.count(0) < _MANY * len(odd) / 10:
        return "utf-16-be", 0
    return "utf-8", 0


def _shape(path: Path, first: bytes, lines: list[bytes], suffix: str, *, lists: bool) -> tuple[Shape, str]:
    if not lines:
        return "table" if suffix in TABLE_SUFFIXES else "lines", ","
    if first == b"{":
        return _objects(path, lines, lists=lists), ","
    if first == b"[":
        second = lines[1].lstrip()[:1] if len(lines) > 1 else b""
        return "lines" if second in (b"[", b"{") and _is_json(lines[0]) else "array", ","
    if first == b"<":
        what = "an HTML page" if b"<html" in b" ".join(lines[:5]).lower() else "XML"
        msg = f"{path}: {what}; write it as JSON lines, CSV or Parquet"
        raise SourceError(msg)
    if suffix not in TABLE_SUFFIXES and any(line.lstrip().startswith(b"{") for line in lines):
        return "lines", ","
    return "table", _delimiter(path, lines, suffix)


def _objects(path: Path, lines: list[bytes], *, lists: bool) -> Shape:
    """Whether each line is an object, or objects span lines; one object around a list is refused."""
    inside = _list_inside(lines[0] if _is_json(lines[0]) else b"\n".join(lines))
    if not lists and inside is not None and (len(lines) == 1 or not _is_json(lines[0])):
        msg = (
            f"{path}: one JSON object with a list {inside!r} inside; "
            f"give the list itself, e.g. jq -c '.{inside}[]' {path.name} > lines.jsonl"
        )
        raise SourceError(msg)
    if len(lines) == 1 or _is_json(lines[0]):
        return "lines"
    second = lines[1].lstrip()
    return "documents" if second.startswith((b'"', b"}")) and not _is_json(second) else "lines"


def _list_inside(text: bytes) -> str | None:
    """The name of the list of objects in one object that is no record itself; of a cut one, by its start."""
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        head = _PLAIN_FIELDS.match(text)
        found = _LIST_FIELD.match(text, head.end() - 1) if head else None
        if head is None or found is None or _RECORD.search(head.group()) or found.group(1) in _OWN_LISTS:
            return None
        return found.group(1).decode("utf-8", "replace")
    if not isinstance(whole, dict) or not _RECORD_FIELDS.isdisjoint(whole):
        return None
    lists = (n for n, v in whole.items() if isinstance(v, list) and v and isinstance(v[0], dict))
    return next(lists, None)


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _delimiter(path: Path, lines: list[bytes], suffix: str) -> str:
    """What parts the cells: what parts the header, and most rows into as many cells.

    Raises:
        SourceError: the header is not UTF-8, or is none.
    """
    try:
        header = lines[0].decode()
    except UnicodeDecodeError as error:
        msg = (
            f"{path}: not UTF-8 ({lines[0][error.start : error.start + 1]!r} in the first line); it may be "
            "Latin-1 or Windows-1252: save it in UTF-8, e.g. iconv -f WINDOWS-1252 -t UTF-8"
        )
        raise SourceError(msg) from error
    counts = {d: _unquoted(header, d) for d in DELIMITERS}
    rows = [line.decode("utf-8", "replace") for line in lines[1:]]
    best = max(DELIMITERS, key=lambda d: (counts[d] > 0, _agree(rows, d, counts[d]), counts[d]))
    if counts[best] == 0:
        if suffix in TABLE_SUFFIXES:
            return "\t" if suffix == ".tsv" else ","
        msg = f"{path}: neither JSON ({header[:40]!r} begins it) nor a table with a header and delimiters"
        raise SourceError(msg)
    return best


def _unquoted(line: str, delimiter: str) -> int:
    return sum(part.count(delimiter) for part in line.split('"')[::2])


def _agree(rows: list[str], delimiter: str, count: int) -> bool:
    """Whether at least half of the rows have as many cells as the header."""
    return 2 * sum(_unquoted(row, delimiter) == count for row in rows) >= len(rows)
