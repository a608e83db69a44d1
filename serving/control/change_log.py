"""The log of a control value: who changed what, when, from what. Its last valid entry is in force."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from feature_repo.errors import HeadraceError

log = logging.getLogger(__name__)
T = TypeVar("T")


class Change(Struct, Generic[T], frozen=True, kw_only=True):
    """One entry.

    Attributes:
        version: counts up.
        content: version whose value this one repeats: its own, or the one a rollback went back to.
        replaces: identity of the file that this change replaces, empty for none. While the file is still that
            one, the change has not been exported to it yet. `None` for an edit of the file itself.
    """

    version: int
    content: int
    who: str
    when: datetime
    before: T
    after: T
    replaces: str | None = None

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Return what changed, by path: from and to; `None` for a path that was or is missing."""
        before, after = _by_path(self.before), _by_path(self.after)
        paths = dict.fromkeys((*before, *after))
        return {p: (before.get(p), after.get(p)) for p in paths if before.get(p) != after.get(p)}


class ChangeLog(Generic[T]):
    """One JSON line for each change.

    Args:
        entry: type of a line, as ``Change[Flags]``.
    """

    def __init__(self, path: Path, entry: type[Change[T]]) -> None:
        self.path = path
        self._entry = entry

    def history(self) -> list[Change[T]]:
        """Return all changes, oldest first."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [change for line in lines if (change := self._change_of(line)) is not None]

    def append(self, change: Change[T]) -> None:
        """Add a change, whole or not at all; it is on disk on return.

        Raises:
            OSError: it cannot be written.
        """
        with self.path.open("ab+", buffering=0) as entries:
            size = entries.tell()
            entries.seek(max(size - 1, 0))
            torn = entries.read(1) not in {b"", b"\n"}
            line = (b"\n" if torn else b"") + msgspec.json.encode(change) + b"\n"
            try:
                _write_all(entries.fileno(), line)
                os.fsync(entries.fileno())
            except OSError:
                os.ftruncate(entries.fileno(), size)
                raise

    def _change_of(self, line: bytes) -> Change[T] | None:
        try:
            return msgspec.json.decode(line, type=self._entry)
        except (msgspec.MsgspecError, UnicodeDecodeError, HeadraceError) as error:
            # Torn by a crash, or written by an earlier release: the other entries still count.
            log.warning("%s: a line is skipped (%s)", self.path, error)
            return None


def _write_all(file: int, content: bytes) -> None:
    """Write everything; on a full disk a write may take a part, and only the next one fail."""
    while content:
        content = content[os.write(file, content) :]


def _by_path(value: object) -> dict[str, Any]:
    """Return the parts of a value by path, one level deep; members of a list by their name."""
    found: dict[str, Any] = {}
    for name, held in msgspec.to_builtins(value).items():
        if isinstance(held, dict):
            found.update({f"{name}.{part}": one for part, one in held.items()})
        elif isinstance(held, (list, tuple)) and all(isinstance(one, dict) and "name" in one for one in held):
            found.update({f"{name}.{one['name']}": one for one in held})
        else:
            found[name] = held
    return found
