"""Reserved disk space, so that a small but critical write succeeds on a full disk."""

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
    """A placeholder file that is deleted when its space is needed.

    Args:
        path: must be on the file system that is written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Create the file, unless it exists or the disk has no room for it."""
        if self._path.exists():
            return
        try:
            # Random bytes, because a compressing file system would not reserve space for zeros.
            self._path.write_bytes(os.urandom(RESERVED_BYTES))
        except OSError:
            self._path.unlink(missing_ok=True)

    def spend_on(self, write: Callable[[], None]) -> None:
        """Call `write`. If the disk is full, delete the reserve and try again.

        Raises:
            OSError: `write` failed for another reason, or failed again.
        """
        try:
            write()
        except OSError as error:
            if error.errno not in _FULL or not self._path.exists():
                raise
            log.warning(
                "%s: the disk is full; using the reserve for %s", self._path, error.filename or "a write"
            )
            self._path.unlink(missing_ok=True)
            write()
