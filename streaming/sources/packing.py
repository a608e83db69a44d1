"""Unpacking by content: gzip, bzip2, xz, zstd and zip of one file, a piece at a time, within limits."""

from __future__ import annotations

import bz2
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from feature_repo.errors import SourceError
from feature_repo.settings import Settings

PIECE = 1 << 20
"""Bytes read or unpacked at once."""
DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, OSError, ValueError)
"""What unpacking raises where the packed bytes are cut or damaged."""
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
_BY_SUFFIX = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
PACKED_SUFFIXES = tuple(_BY_SUFFIX)
_LZMA_MEMORY = 256 << 20
RATIO_FROM = 64 << 20
"""Unpacked bytes from which the ratio counts: a few lines that repeat pack well and do no harm."""


@dataclass(frozen=True)
class Limits:
    """What a file may cost.

    Attributes:
        row_bytes: of a line, or of a row of a table.
        unpacked_bytes: of a whole file, unpacked.
        ratio: of unpacked to packed bytes, from 64 MiB on.
    """

    row_bytes: int = Settings.model_fields["ingest_row_bytes"].default
    unpacked_bytes: int = Settings.model_fields["ingest_unpacked_bytes"].default
    ratio: float = Settings.model_fields["ingest_unpacked_ratio"].default

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits of the settings."""
        return cls(settings.ingest_row_bytes, settings.ingest_unpacked_bytes, settings.ingest_unpacked_ratio)


def packing_of(head: bytes, suffix: str) -> str | None:
    """How a file that begins with these bytes is packed; the name counts only where the bytes end early."""
    for magic, name in _MAGIC.items():
        if head.startswith(magic) and (name != "bzip2" or head[3:4].isdigit() or len(head) == len(magic)):
            return name
        if 0 < len(head) < len(magic) and magic.startswith(head) and _BY_SUFFIX.get(suffix) == name:
            return name
    return None


def unpack(file: IO[bytes], path: Path, limits: Limits, read: Callable[[int], None]) -> Iterator[bytes]:
    """The bytes of a file, unpacked where they are packed.

    Args:
        file: open at its beginning.
        path: for messages.
        limits: bounds on what comes out.
        read: told how many bytes of the file were read so far.

    Raises:
        SourceError: an archive that cannot be opened, or a limit exceeded.
        EOFError, zlib.error, …: one of `DAMAGED`, after all that could be unpacked.
    """
    packing = packing_of(file.read(8), path.suffix.lower())
    file.seek(0)
    if packing is None:
        while piece := file.read(PIECE):
            read(file.tell())
            yield piece
        return
    out = 0
    for piece in _unpack(file, path, packing):
        packed = file.tell()
        read(packed)
        out += len(piece)
        if out > limits.unpacked_bytes:
            msg = (
                f"{path}: unpacks to more than {limits.unpacked_bytes:,} bytes, the limit "
                "HEADRACE_INGEST_UNPACKED_BYTES; raise it, or split the file"
            )
            raise SourceError(msg)
        if out > max(RATIO_FROM, limits.ratio * packed):
            msg = (
                f"{path}: unpacks to more than {limits.ratio:g} times its size, the limit "
                "HEADRACE_INGEST_UNPACKED_RATIO; raise it if the file is meant to be like that"
            )
            raise SourceError(msg)
        yield piece


def _unpack(file: IO[bytes], path: Path, packing: str) -> Iterator[bytes]:
    match packing:
        case "zip":
            return _unzip(file, path)
        case "zstd":
            return _unzstd(file)
        case "gzip":
            return _members(file, _Gunzip)
        case "bzip2":
            return _members(file, bz2.BZ2Decompressor)
    return _members(file, lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY))


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Gunzip:
    """zlib with the interface of its siblings. `gzip.open` keeps back what it had decoded before a cut."""

    def __init__(self) -> None:
        self._stream: Any = zlib.decompressobj(31)  # 31: a gzip header is expected

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._stream.unused_data)

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        return bytes(self._stream.decompress(self._stream.unconsumed_tail + data, max_length))


def _members(file: IO[bytes], new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """One compressed stream after the other; zeros between them are padding."""
    stream = new()
    packed = b""
    while True:
        if stream.eof:
            packed = stream.unused_data.lstrip(b"\0")
            while not packed and (more := file.read(PIECE)):
                packed = more.lstrip(b"\0")
            if not packed:
                return
            stream = new()
        elif not packed and stream.needs_input and not (packed := file.read(PIECE)):
            msg = "the compressed stream has no end"
            raise EOFError(msg)
        yield stream.decompress(packed, PIECE)
        packed = b""


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    import pyarrow as pa  # noqa: PLC0415

    with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
        while piece := stream.read(PIECE):
            yield piece


def _unzip(file: IO[bytes], path: Path) -> Iterator[bytes]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        msg = f"{path}: not a whole zip archive ({error}); fetch the file again"
        raise SourceError(msg) from error
    names = [n for n in archive.namelist() if not n.endswith("/")]
    if "[Content_Types].xml" in names:
        kind = "an Excel workbook" if any(n.startswith("xl/") for n in names) else "an Office document"
        msg = f"{path}: {kind}; save the table as CSV"
        raise SourceError(msg)
    if len(names) != 1:
        msg = f"{path}: holds {len(names)} files ({', '.join(names[:5])}); an archive of one is read"
        raise SourceError(msg)
    try:
        member = archive.open(names[0])
    except (RuntimeError, NotImplementedError, ValueError, OSError) as error:  # a password, an unknown method
        msg = f"{path}: cannot unpack ({error}); unpack it and give the file"
        raise SourceError(msg) from error
    with member:
        while piece := member.read(PIECE):
            yield piece
