"""The writing side of a partition. Many processes may write; a file lock orders them.

Positions are offsets, and readers keep theirs for weeks, so no offset is ever reused. A new log starts at its
creation time (ns), far beyond any position in an earlier log in this folder. So does the first segment after
a reboot: the file system may have lost records that readers had seen, and new records must be beyond every
existing position.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Lock

from feature_repo.errors import LogError
from feature_repo.files import make_folder, sync
from streaming.log.segment_folder import SegmentFolder, this_boot
from streaming.log.segment_frames import MAX_RECORD_BYTES, frame

_ALL = 1 << 30


class Appender:
    """Appends to the last segment, and starts a new one when it is full.

    Args:
        folder: folder of the partition; created with the first record.
        segment_bytes: size at which a new segment is started.
        clock_ns: wall time, at which a new log starts.
        boot: id of the machine's boot; see `this_boot`.
    """

    def __init__(
        self,
        folder: SegmentFolder,
        segment_bytes: int,
        clock_ns: Callable[[], int] = time.time_ns,
        boot: Callable[[], bytes] = this_boot,
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._clock_ns = clock_ns
        self._boot = boot
        self._lock = Lock()
        self._lock_fd = -1
        self._fd = -1
        self._base = -1  # segment being written, and the known end of its whole records
        self._end = 0
        self._dirty = False

    def append(self, payloads: Sequence[bytes]) -> None:
        """Append records. After an error, some whole records may remain, but never a torn one.

        Raises:
            LogError: a record is too large, the disk is full, or the folder may not be written.
        """
        for payload in payloads:
            if len(payload) > MAX_RECORD_BYTES:
                msg = f"{self._folder.path}: a record of {len(payload)} bytes; at most {MAX_RECORD_BYTES}"
                raise LogError(msg)
        data = frame(payloads)
        with self._exclusive():
            self._settle()
            if self._end and self._end + len(data) > self._segment_bytes:
                self._begin(self._base + self._end)
            try:
                self._write(data)
            except OSError:
                self._cut_torn()
                raise
            self._end += len(data)
            self._dirty = True

    def force(self) -> None:
        """Sync written data to disk."""
        with self._lock, self._folder.mapped("sync"):
            if self._dirty and self._fd >= 0:
                os.fdatasync(self._fd)
                self._dirty = False

    def trim(self, older_than: timedelta) -> int:
        """Remove whole segments last written longer ago; start a new one if that empties the log."""
        horizon = time.time() - older_than.total_seconds()
        removed = 0
        with self._exclusive():
            self._settle()
            if self._end and os.fstat(self._fd).st_mtime < horizon:
                self._begin(self._base + self._end)
            for base in self._folder.bases():
                path = self._folder.segment(base)
                if base >= self._base or path.stat().st_mtime >= horizon:
                    break
                path.unlink()
                removed += 1
        return removed

    def known_end(self, base: int) -> int:
        """Return up to where a segment is known to hold whole records."""
        return self._end if base == self._base else 0

    def close(self) -> None:
        """Sync pending data and close the files."""
        self.force()
        for fd in (self._lock_fd, self._fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self._fd = self._base = -1

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock, self._folder.mapped("write"):
            self._take_lock()
            try:
                yield
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _take_lock(self) -> None:
        """Lock the current folder; one that was deleted meanwhile is no longer read by anybody."""
        while True:
            opened = self._lock_fd < 0
            if opened:
                make_folder(self._folder.path)
                self._lock_fd = os.open(self._folder.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            if os.fstat(self._lock_fd).st_nlink:
                break
            self._forget_lock()
        if opened:
            try:
                self._note_boot()
            except OSError:  # retried later
                self._forget_lock()
                raise

    def _forget_lock(self) -> None:
        os.close(self._lock_fd)
        self._lock_fd = self._base = -1

    def _note_boot(self) -> None:
        boot = self._boot()
        if os.pread(self._lock_fd, len(boot) + 1, 0) == boot:
            return
        if self._folder.bases():
            self._settle()
            self._begin(self._fresh())
        os.ftruncate(self._lock_fd, 0)
        os.write(self._lock_fd, boot)

    def _fresh(self) -> int:
        """Return an offset that no reader can hold."""
        return max(self._clock_ns(), self._base + self._end + 1)

    def _settle(self) -> None:
        """Find the end of the last segment, past what others wrote, and truncate a torn tail."""
        bases = self._folder.bases()
        if not bases:
            self._base, self._end = 0, 0
            self._begin(self._fresh())
            return
        if bases[-1] != self._base:
            self._open(bases[-1], os.O_RDWR)
        self._find_end()

    def _find_end(self) -> None:
        size = os.fstat(self._fd).st_size
        if size < self._end:  # truncated from outside
            self._end = 0
        while self._end < size:
            end = self._folder.frames(self._fd, self._base, self._end, _ALL, last=True).end
            if end == self._end:
                os.ftruncate(self._fd, self._end)
                break
            self._end = end

    def _begin(self, base: int) -> None:
        if self._dirty:
            os.fdatasync(self._fd)
        self._open(base, os.O_RDWR | os.O_CREAT)
        sync(self._folder.path)  # otherwise a power cut could lose the new file's name

    def _open(self, base: int, flags: int) -> None:
        fd = os.open(self._folder.segment(base), flags, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._base, self._end = fd, base, 0

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self._end
        while view:
            written = os.pwrite(self._fd, view, at)
            view, at = view[written:], at + written

    def _cut_torn(self) -> None:
        """Truncate the torn record after a failed write; readers may already be past the whole ones."""
        try:
            self._find_end()
        except OSError:  # the next writer does it
            self._base = -1
