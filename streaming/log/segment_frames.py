"""The record frame of a segment file: ``magic(2) length(4) crc32(4) payload``, little endian.

The checksum covers length and payload. The magic lets a reader find the next record after damaged bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

MAGIC = b"\xa5\x1e"
_HEADER = struct.Struct("<2sII")
_LENGTH = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
MAX_RECORD_BYTES = 16 * 1024 * 1024
BAD_CHECKSUM = "checksum does not match"
BAD_HEADER = "no record begins here"
CUT_SHORT = "record cut short"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Damaged bytes ``start:end`` of a scanned buffer."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """Contents of a buffer: payloads, damaged stretches between them, and the end of the whole frames.

    Attributes:
        starts: where each payload's frame starts.
    """

    records: list[bytes]
    starts: list[int]
    damaged: list[Stretch]
    end: int


def frame(payloads: Iterable[bytes]) -> bytes:
    """Encode payloads as consecutive frames."""
    parts: list[bytes] = []
    pack, length = _HEADER.pack, _LENGTH.pack
    for payload in payloads:
        size = len(payload)
        parts.append(pack(MAGIC, size, crc32(payload, crc32(length(size)))))
        parts.append(payload)
    return b"".join(parts)


def scan(buffer: bytes, limit: int) -> Scan:
    """Read up to `limit` frames from the start of a buffer.

    Stops before an incomplete frame (the rest may still be being written). Bytes that form no frame are
    skipped up to the next whole one; if none follows, they are left unread.
    """
    records: list[bytes] = []
    starts: list[int] = []
    damaged: list[Stretch] = []
    at, size = 0, len(buffer)
    unpack, length = _HEADER.unpack_from, _LENGTH.pack
    while len(records) < limit and at + HEADER_BYTES <= size:
        magic, count, crc = unpack(buffer, at)
        end = at + HEADER_BYTES + count
        if magic == MAGIC and count <= MAX_RECORD_BYTES:
            if end > size:
                if (following := _resume(buffer, at + 1)) is None:
                    break
                damaged.append(Stretch(at, following, CUT_SHORT))
                at = following
                continue
            payload = buffer[at + HEADER_BYTES : end]
            if crc32(payload, crc32(length(count))) == crc:
                records.append(payload)
                starts.append(at)
                at = end
                continue
            reason = BAD_CHECKSUM
        else:
            reason = BAD_HEADER
        following = _resume(buffer, at + 1)
        if following is None:
            if reason == BAD_HEADER or end != size:
                break
            following = end
        damaged.append(Stretch(at, following, reason))
        at = following
    return Scan(records, starts, damaged, at)


def _resume(buffer: bytes, at: int) -> int | None:
    """Find the start of the next whole, intact frame."""
    while (at := buffer.find(MAGIC, at)) >= 0 and at + HEADER_BYTES <= len(buffer):
        _, count, crc = _HEADER.unpack_from(buffer, at)
        end = at + HEADER_BYTES + count
        if end <= len(buffer) and crc32(buffer[at + HEADER_BYTES : end], crc32(_LENGTH.pack(count))) == crc:
            return at
        at += 1
    return None
