"""One partition of the segment log: its reading side, with the `Appender` for writing."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Lock

from streaming.log.appender import Appender
from streaming.log.protocol import Batch, Damage, Position, PositionLostError
from streaming.log.segment_folder import SegmentFolder, offset_of, this_boot, token

_ALL = 1 << 30
_SETTLED_NS = 1_000_000_000


class Partition:
    """Appends to and reads from one folder of segment files.

    Args:
        folder: holds ``<start offset>.seg`` files and ``.lock``.
        segment_bytes: size at which a new file is started.
        boot: id of the machine's boot; see `this_boot`.
    """

    def __init__(self, folder: Path, segment_bytes: int, boot: Callable[[], bytes] = this_boot) -> None:
        self._folder = SegmentFolder(folder)
        self._appender = Appender(self._folder, segment_bytes, boot=boot)
        self._lock = Lock()
        self._fd = -1
        self._base = -1
        self._bases: list[int] = []
        self._listed = (0, 0)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Append records; see `Appender.append`."""
        self._appender.append(payloads)

    def force(self) -> None:
        """Sync written data to disk."""
        self._appender.force()

    def trim(self, older_than: timedelta) -> int:
        """Remove segments last written longer ago than this; return how many."""
        return self._appender.trim(older_than)

    def read(self, position: Position, limit: int) -> Batch:
        """Read records after a position. A position before the oldest segment reads from that segment.

        Raises:
            PositionLostError: the position is beyond the end.
            LogError: the segments cannot be read.
        """
        with self._lock, self._folder.mapped("read"):
            return self._read(offset_of(position), limit)

    def _read(self, at: int, limit: int) -> Batch:
        records: list[bytes] = []
        places: list[int] = []
        damaged: list[Damage] = []
        while len(records) < limit:
            bases = self._fresh_bases()
            if not bases:
                self._check(at, 0)
                break
            index = max(bisect_right(bases, at) - 1, 0)
            base, last = bases[index], index == len(bases) - 1
            at = max(at, base)
            if not self._open(base):
                continue
            found = self._folder.frames(self._fd, base, at - base, limit - len(records), last)
            records += found.records
            places += found.places
            damaged += found.damaged
            if found.end > at - base:
                at = base + found.end
            elif last:
                self._check(at, base + os.fstat(self._fd).st_size)
                break
            else:
                at = bases[index + 1]
        return Batch(records, token(at), tuple(damaged), places)

    def start(self) -> Position:
        """Return the start of the oldest segment."""
        bases = self._folder.bases()
        return token(bases[0] if bases else 0)

    def end(self) -> Position:
        """Return the position after the last whole record."""
        with self._lock, self._folder.mapped("read"):
            bases = self._folder.bases()
            if not bases or not self._open(bases[-1]):
                return token(bases[-1] if bases else 0)
            base = bases[-1]
            at = min(self._appender.known_end(base), os.fstat(self._fd).st_size)
            while (end := self._folder.frames(self._fd, base, at, _ALL, last=True).end) > at:
                at = end
            return token(base + at)

    def close(self) -> None:
        """Sync pending data and close the files."""
        self._appender.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._base = -1

    def _open(self, base: int) -> bool:
        if base == self._base:
            return True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = self._base = -1
        try:
            self._fd = os.open(self._folder.segment(base), os.O_RDONLY)
        except FileNotFoundError:  # trimmed meanwhile
            self._listed = (0, 0)
            return False
        self._base = base
        return True

    def _fresh_bases(self) -> list[int]:
        """List segment starts; reread only if the folder changed, or may have within its time resolution."""
        try:
            changed = self._folder.path.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        seen, listed_at = self._listed
        if changed != seen or listed_at - changed < _SETTLED_NS:
            self._listed = (changed, time.time_ns())
            self._bases = self._folder.bases()
        return self._bases

    def _check(self, at: int, end: int) -> None:
        if at > end:
            raise PositionLostError(str(self._folder.path), token(at), token(end))
