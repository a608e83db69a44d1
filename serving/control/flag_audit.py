"""The audit log of the flags: who changed what, when, from what."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from feature_repo.errors import SettingsError
from serving.control.flags import Flags

log = logging.getLogger(__name__)


class Change(Struct, frozen=True, kw_only=True):
    """One line of the audit log.

    Attributes:
        version: counts up.
        content: version whose set this one repeats: its own, or the one a rollback went back to.
        replaces: identity of the flags file that this change replaces, empty for none. While the file is
            still that one, the change has not been written to it yet. `None` for an edit of the file itself.
    """

    version: int
    content: int
    who: str
    when: datetime
    before: Flags
    after: Flags
    replaces: str | None = None

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Flags that changed, nested ones by their path: from, to; `None` where there was or is none."""
        before, after = _by_path(self.before), _by_path(self.after)
        paths = dict.fromkeys((*before, *after))
        return {p: (before.get(p), after.get(p)) for p in paths if before.get(p) != after.get(p)}


class FlagAudit:
    """One JSON line for each change."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def history(self) -> list[Change]:
        """All changes, oldest first."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [change for line in lines if (change := _change_of(line)) is not None]

    def append(self, change: Change) -> None:
        """Add a change, whole or not at all; it is on disk on return.

        Raises:
            OSError: it cannot be written.
        """
        with self.path.open("ab+", buffering=0) as audit:
            size = audit.tell()
            audit.seek(max(size - 1, 0))
            torn = audit.read(1) not in {b"", b"\n"}
            line = (b"\n" if torn else b"") + msgspec.json.encode(change) + b"\n"
            try:
                _write_all(audit.fileno(), line)
                os.fsync(audit.fileno())
            except OSError:
                os.ftruncate(audit.fileno(), size)
                raise


def _write_all(file: int, content: bytes) -> None:
    """On a full disk a write may take a part, and only the next one fail."""
    while content:
        content = content[os.write(file, content) :]


def _by_path(flags: Flags) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(flags).items():
        if isinstance(value, dict):
            found.update({f"{name}.{part}": held for part, held in value.items()})
        else:
            found[name] = value
    return found


def _change_of(line: bytes) -> Change | None:
    try:
        return msgspec.json.decode(line, type=Change)
    except (msgspec.MsgspecError, UnicodeDecodeError, SettingsError) as error:
        # Torn by a crash, or of an older shape of the flags: the others still say what is in force.
        log.warning("audit log of the flags: a line is passed over (%s)", error)
        return None
