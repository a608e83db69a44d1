"""One partition of the segment log: files named by the offset they begin at, so a position is one number."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Lock

from feature_repo.errors import LogError
from streaming.log.base import Batch, Damage, Position
from streaming.log.frames import CUT_SHORT, MAX_RECORD_BYTES, frame, scan

SUFFIX = ".seg"
WIDTH = 20
_READ_BYTES = 1 << 20
_SETTLED_NS = 1_000_000_000


class Partition:
    """Append and read one folder of segment files. Many processes may write: a file lock orders them.

    Args:
        folder: holds ``<start offset>.seg`` files and ``.lock``.
        segment_bytes: size at which a new file is begun.
    """

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._writing = Lock()
        self._reading = Lock()
        self._lock_fd = -1
        self._write_fd = -1
        self._base = -1  # segment being written, and how far it is known to hold whole frames
        self._end = 0
        self._read_fd = -1
        self._read_base = -1
        self._bases: list[int] = []
        self._listed = (0, 0)
        self.dirty = False

    # Writing

    def append(self, payloads: Sequence[bytes]) -> None:
        """Append records; all of them or, on an error, none.

        Raises:
            LogError: a record is too large, the disk is full, or the folder may not be written.
        """
        for payload in payloads:
            if len(payload) > MAX_RECORD_BYTES:
                msg = f"{self._folder}: a record of {len(payload)} bytes; at most {MAX_RECORD_BYTES}"
                raise LogError(msg)
        data = frame(payloads)
        with self._exclusive():
            self._settle()
            if self._end and self._end + len(data) > self._segment_bytes:
                self._begin(self._base + self._end)
            try:
                self._write(data)
            except OSError as error:
                self._take_back()
                raise self._error("write", error) from error
            self._end += len(data)
            self.dirty = True

    def force(self) -> None:
        """Force what was written to the disk."""
        with self._writing:
            if self.dirty and self._write_fd >= 0:
                try:
                    os.fdatasync(self._write_fd)
                except OSError as error:
                    raise self._error("sync", error) from error
                self.dirty = False

    def trim(self, older_than: timedelta) -> int:
        """Remove whole segments last written longer ago; begins a new one where that empties the log."""
        horizon = time.time() - older_than.total_seconds()
        removed = 0
        with self._exclusive():
            self._settle()
            active = self._path(self._base)
            if self._end and active.stat().st_mtime < horizon:
                self._begin(self._base + self._end)
            for base in self._list():
                path = self._path(base)
                if base >= self._base or path.stat().st_mtime >= horizon:
                    break
                path.unlink()
                removed += 1
        return removed

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._writing:
            try:
                if self._lock_fd < 0:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    self._lock_fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            except OSError as error:
                raise self._error("open", error) from error
            try:
                yield
            except OSError as error:
                raise self._error("write", error) from error
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _settle(self) -> None:
        """Find the end of the last segment, past what others wrote, and cut off a torn tail."""
        bases = self._list()
        if not bases:
            self._begin(0)
            return
        if bases[-1] != self._base:
            self._open_for_writing(bases[-1], os.O_RDWR)
        size = os.fstat(self._write_fd).st_size
        if size < self._end:  # cut from outside
            self._end = 0
        while self._end < size:
            batch_end = self._frames(self._write_fd, self._base, self._end, 1 << 30, last=True)[2]
            if batch_end == self._end:
                os.ftruncate(self._write_fd, self._end)
                break
            self._end = batch_end

    def _begin(self, base: int) -> None:
        if self.dirty:
            os.fdatasync(self._write_fd)
        self._open_for_writing(base, os.O_RDWR | os.O_CREAT)

    def _open_for_writing(self, base: int, flags: int) -> None:
        fd = os.open(self._path(base), flags, 0o644)
        if self._write_fd >= 0:
            os.close(self._write_fd)
        self._write_fd, self._base, self._end = fd, base, 0

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self._end
        while view:
            written = os.pwrite(self._write_fd, view, at)
            view, at = view[written:], at + written

    def _take_back(self) -> None:
        """After a failed write nothing of the batch may stay."""
        try:
            os.ftruncate(self._write_fd, self._end)
        except OSError:  # the torn tail is cut off by the next writer
            self._base = -1

    # Reading

    def read(self, position: Position, limit: int) -> Batch:
        """Records after a position. A position before the oldest segment reads from there."""
        with self._reading:
            try:
                return self._read(_offset(position), limit)
            except OSError as error:
                raise self._error("read", error) from error

    def _read(self, at: int, limit: int) -> Batch:
        records: list[bytes] = []
        damaged: list[Damage] = []
        while len(records) < limit:
            bases = self._fresh_bases()
            index = max(bisect_right(bases, at) - 1, 0)
            if not bases:
                break
            base = bases[index]
            at = max(at, base)
            last = index == len(bases) - 1
            if not self._open_for_reading(base):
                continue
            found, hurt, end = self._frames(self._read_fd, base, at - base, limit - len(records), last)
            records += found
            damaged += hurt
            if end > at - base:
                at = base + end
            elif last:
                break
            else:
                at = bases[index + 1]
        return Batch(records, _token(at), tuple(damaged))

    def _frames(
        self, fd: int, base: int, offset: int, limit: int, last: bool
    ) -> tuple[list[bytes], list[Damage], int]:
        want = _READ_BYTES
        while True:
            buffer = os.pread(fd, want, offset)
            if not buffer:
                return [], [], offset
            found = scan(buffer, limit)
            if found.end or len(buffer) < want or want > 2 * MAX_RECORD_BYTES:
                break
            want *= 4
        source = str(self._path(base))
        damaged = [Damage(source, offset + s.start, buffer[s.start : s.end], s.reason) for s in found.damaged]
        end = offset + found.end
        at_eof = len(buffer) < want
        if not last and at_eof and len(found.records) < limit and found.end < len(buffer):
            damaged.append(Damage(source, end, buffer[found.end :], CUT_SHORT))
            end = offset + len(buffer)
        return found.records, damaged, end

    def _open_for_reading(self, base: int) -> bool:
        if base == self._read_base:
            return True
        if self._read_fd >= 0:
            os.close(self._read_fd)
            self._read_fd = self._read_base = -1
        try:
            self._read_fd = os.open(self._path(base), os.O_RDONLY)
        except FileNotFoundError:  # trimmed meanwhile
            self._listed = (0, 0)
            return False
        self._read_base = base
        return True

    def start(self) -> Position:
        """Where the oldest segment begins."""
        bases = self._list()
        return _token(bases[0] if bases else 0)

    def end(self) -> Position:
        """After the last whole record."""
        bases = self._list()
        if not bases:
            return _token(0)
        with self._reading:
            self._listed = (0, 0)
            base, at = bases[-1], 0
            if not self._open_for_reading(base):
                return _token(base)
            if base == self._base:
                at = min(self._end, os.fstat(self._read_fd).st_size)
            while (end := self._frames(self._read_fd, base, at, 1 << 30, last=True)[2]) > at:
                at = end
            return _token(base + at)

    def _fresh_bases(self) -> list[int]:
        """Segment starts, listed anew only when the folder changed (or changed within its clock's grain)."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        seen, listed_at = self._listed
        if changed != seen or listed_at - changed < _SETTLED_NS:
            self._listed = (changed, time.time_ns())
            self._bases = self._list()
        return self._bases

    def _list(self) -> list[int]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return sorted(int(n.removesuffix(SUFFIX)) for n in names if n.endswith(SUFFIX))

    def _path(self, base: int) -> Path:
        return self._folder / f"{base:0{WIDTH}d}{SUFFIX}"

    def close(self) -> None:
        """Force what is pending and let go of the files."""
        self.force()
        for fd in (self._lock_fd, self._write_fd, self._read_fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self._write_fd = self._read_fd = self._base = self._read_base = -1

    def _error(self, verb: str, error: OSError) -> LogError:
        remedy = {
            errno.ENOSPC: "disk full: free space, or point HEADRACE_HOME at a larger disk",
            errno.EDQUOT: "quota used up: free space, or point HEADRACE_HOME at a larger disk",
            errno.EACCES: "not permitted: point HEADRACE_HOME at a folder this user may write to",
            errno.EPERM: "not permitted: point HEADRACE_HOME at a folder this user may write to",
            errno.EROFS: "read-only file system: point HEADRACE_HOME at a writable one",
        }.get(error.errno or 0, error.strerror or str(error))
        return LogError(f"event log {self._folder}: cannot {verb}; {remedy}")


def _token(offset: int) -> Position:
    return f"{offset:0{WIDTH}d}"


def _offset(position: Position) -> int:
    try:
        return int(position)
    except ValueError:
        msg = f"event log: {position!r} is no position of a segment log"
        raise LogError(msg) from None
