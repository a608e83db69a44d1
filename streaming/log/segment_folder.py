"""The folder of a partition: segment files named by their start offset, so a position is a number."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feature_repo.errors import LogError
from streaming.log.protocol import Damage, Position
from streaming.log.segment_frames import CUT_SHORT, MAX_RECORD_BYTES, scan

SUFFIX = ".seg"
WIDTH = 20
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Frames:
    """Contents of a stretch of a segment, and the offset after it.

    Attributes:
        places: locations of the records in the log.
    """

    records: list[bytes]
    places: list[int]
    damaged: list[Damage]
    end: int


@dataclass(frozen=True, slots=True)
class SegmentFolder:
    """Names and contents of the segments in `path`."""

    path: Path

    def bases(self) -> list[int]:
        """List the start of each segment, ascending."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        starts = (n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX))
        return sorted(int(start) for start in starts if start.isascii() and start.isdigit())

    def segment(self, base: int) -> Path:
        """Return the file that starts at an offset."""
        return self.path / f"{token(base)}{SUFFIX}"

    def frames(self, fd: int, base: int, offset: int, limit: int, last: bool) -> Frames:
        """Continue reading in a segment.

        Args:
            fd: descriptor of the open segment.
            base: start offset of the segment.
            offset: where in the segment to read from.
            limit: maximum number of records.
            last: whether more may still be written at its end; otherwise an unfinished record is damage.
        """
        want = _READ_BYTES
        while True:
            buffer = os.pread(fd, want, offset)
            if not buffer:
                return Frames([], [], [], offset)
            found = scan(buffer, limit)
            if found.damaged and os.pread(fd, want, offset) != buffer:
                continue  # a writer was replacing a torn tail
            if found.end or len(buffer) < want or want > 2 * MAX_RECORD_BYTES:
                break
            want *= 4
        source = str(self.segment(base))
        damaged = [Damage(source, offset + s.start, buffer[s.start : s.end], s.reason) for s in found.damaged]
        end = offset + found.end
        at_eof = len(buffer) < want
        if not last and at_eof and len(found.records) < limit and found.end < len(buffer):
            damaged.append(Damage(source, end, buffer[found.end :], CUT_SHORT))
            end = offset + len(buffer)
        first = base + offset
        return Frames(found.records, [first + at for at in found.starts], damaged, end)

    @contextmanager
    def mapped(self, verb: str) -> Iterator[None]:
        """Convert errors of the operating system to `LogError`, with a remedy."""
        try:
            yield
        except OSError as error:
            remedy = {
                errno.ENOSPC: "disk full: free space, or point HEADRACE_HOME at a larger disk",
                errno.EDQUOT: "quota used up: free space, or point HEADRACE_HOME at a larger disk",
                errno.EACCES: "not permitted: point HEADRACE_HOME at a folder this user may write to",
                errno.EPERM: "not permitted: point HEADRACE_HOME at a folder this user may write to",
                errno.EROFS: "read-only file system: point HEADRACE_HOME at a writable one",
            }.get(error.errno or 0, error.strerror or str(error))
            msg = f"event log {self.path}: cannot {verb}; {remedy}"
            raise LogError(msg) from error


def this_boot() -> bytes:
    """Return an id of this boot of the operating system; empty if it provides none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""


def token(offset: int) -> Position:
    """Format an offset as a fixed-width position, so that text sorts like numbers."""
    return f"{offset:0{WIDTH}d}"


def offset_of(position: Position) -> int:
    """Return the offset of a position.

    Raises:
        LogError: the position belongs to another sort of log.
    """
    if not position.isdigit():
        msg = f"event log: {position!r} is not a position of a segment log"
        raise LogError(msg)
    return int(position)
