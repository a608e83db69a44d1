"""The flags file with its audit log: who changed what, when, from what, and the way back."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from feature_repo.errors import SettingsError
from feature_repo.lock import locked
from serving.flags import Flags, FlagsError, changed, encode_flags, parse_flags

log = logging.getLogger(__name__)

BY_HAND = "file"
"""Who an edit of the file itself is put down to."""


class Change(Struct, frozen=True, kw_only=True):
    """One line of the audit log.

    Attributes:
        version: counts up.
        content: version whose set this one repeats: its own, or the one a rollback went back to.
    """

    version: int
    content: int
    who: str
    when: datetime
    before: Flags
    after: Flags

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Flags that changed, nested ones by their path: from, to; `None` where there was or is none."""
        before, after = _by_path(self.before), _by_path(self.after)
        paths = dict.fromkeys((*before, *after))
        return {p: (before.get(p), after.get(p)) for p in paths if before.get(p) != after.get(p)}


class FlagStore:
    """``flags.json`` (edit it, or `change` it) and ``audit.jsonl`` below `root`; safe between processes.

    Args:
        clock: gives the time of a change.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime]) -> None:
        self.root = root
        self.path = root / "flags.json"
        self._audit = root / "audit.jsonl"
        self._clock = clock

    def load(self) -> Flags:
        """The flags as they stand; of a missing file those last noted, the defaults where none ever were.

        Raises:
            FlagsError: the file is malformed.
        """
        try:
            return parse_flags(self.path.read_bytes())
        except FileNotFoundError:
            noted = self.last_good()
            return Flags() if noted is None else noted

    def last_good(self) -> Flags | None:
        """The set last noted as in force, whatever became of the file; `None` where none ever was."""
        done = self.history()
        return done[-1].after if done else None

    def history(self) -> list[Change]:
        """All changes, oldest first."""
        try:
            lines = self._audit.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [change for line in lines if (change := _change_of(line)) is not None]

    def change(self, changes: Mapping[str, Any], who: str) -> Flags:
        """Replace some flags.

        Raises:
            FlagsError: a flag or value cannot be; nothing is changed then.
        """
        with locked(self.root / ".lock"):
            before = self._adopt()
            after = changed(before, changes)
            self._put(after, who, before)
            return after

    def rollback(self, who: str) -> Flags:
        """Back to the set before the one that stands; again, to the one before that.

        Of a file that is malformed or gone, which never was in force, the way back is the last good set.

        Raises:
            FlagsError: there is no earlier set.
        """
        with locked(self.root / ".lock"):
            try:
                self._check_there()
                self._adopt()
            except FlagsError:
                good = self.last_good() or Flags()
                self._write(good)
                return good
            done = self.history()
            if not done:
                message = "flags: nothing was ever changed, so there is nothing to go back to"
                raise FlagsError("", message)
            target = done[-1].content - 1
            if target < 0:
                message = "flags: the first set stands already; there is no earlier one"
                raise FlagsError("", message)
            by_version = {change.version: change.after for change in done}
            if target and target not in by_version:
                message = (
                    f"flags: version {target} is no longer readable in {self._audit.name}; set them anew"
                )
                raise FlagsError("", message)
            after = by_version[target] if target else done[0].before
            self._put(after, who, done[-1].after, content=target)
            return after

    def adopt(self) -> Flags:
        """Note an edit of the file in the audit log, once, whichever process sees it first.

        An audit log that cannot be written (a full disk) holds nothing up: a kill switch works all the same.

        Raises:
            FlagsError: the file is malformed, or gone though flags were set; nothing is noted.
        """
        try:
            with locked(self.root / ".lock"):
                self._check_there()
                return self._adopt()
        except OSError as error:
            flags = self.load()
            log.error("%s: a change of the flags could not be noted (%s)", self._audit, error)
            return flags

    def _check_there(self) -> None:
        """A file that is gone is no edit: were it the defaults, a kill switch would be off unasked."""
        if not self.path.exists() and self.last_good() is not None:
            message = f"flags: {self.path} is gone; put it back, or `headrace flags rollback`"
            raise FlagsError("", message)

    def _adopt(self) -> Flags:
        flags = self.load()
        noted = self.last_good() or Flags()
        if flags != noted:
            self._note(flags, BY_HAND, noted, None)
        return flags

    def _put(self, flags: Flags, who: str, before: Flags, content: int | None = None) -> None:
        if flags == before and content is None:
            return
        self._note(flags, who, before, content)
        self._write(flags)

    def _note(self, flags: Flags, who: str, before: Flags, content: int | None) -> None:
        done = self.history()
        version = done[-1].version + 1 if done else 1
        change = Change(
            version=version,
            content=version if content is None else content,
            who=who,
            when=self._clock(),
            before=before,
            after=flags,
        )
        with self._audit.open("ab+") as audit:
            audit.seek(max(audit.tell() - 1, 0))
            torn = audit.read(1) not in {b"", b"\n"}
            audit.write((b"\n" if torn else b"") + msgspec.json.encode(change) + b"\n")

    def _write(self, flags: Flags) -> None:
        aside = self.path.with_name(".flags.json.tmp")
        aside.write_bytes(encode_flags(flags))
        aside.replace(self.path)


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
        # Torn by a crash, or of an older shape of the flags: the others still tell what stands.
        log.warning("audit log of the flags: a line is passed over (%s)", error)
        return None


def whoami() -> str:
    """The user of this process, for the audit log of the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
