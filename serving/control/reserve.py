"""Disk space kept back, so that a small write that must not fail succeeds on a full disk."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

RESERVED_BYTES = 64 << 10
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Reserve:
    """A file of no meaning, removed when its space is needed.

    Args:
        path: on the file system that is written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Make the file where there is none and the disk has room for it."""
        if self._path.exists():
            return
        try:
            # Random bytes: a file system that compresses would keep no space for zeros.
            self._path.write_bytes(os.urandom(RESERVED_BYTES))
        except OSError:
            self._path.unlink(missing_ok=True)

    def spend_on(self, write: Callable[[], None]) -> None:
        """Write; on a full disk a second time, with the reserve's space.

        Raises:
            OSError: `write` failed nevertheless.
        """
        try:
            write()
        except OSError as error:
            if error.errno not in _FULL or not self._path.exists():
                raise
            log.warning(
                "%s: the disk is full; its space is used for %s", self._path, error.filename or "a write"
            )
            self._path.unlink(missing_ok=True)
            write()
