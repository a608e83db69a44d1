"""The flags file with its audit log: who changed what, when, from what, and the way back.

A change is made by one write: its line in the audit log. The flags file follows; until it does (a crash, a
full disk) the newest line says what is in force. An edit of the file by hand is noted when it is seen.
"""

from __future__ import annotations

import getpass
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from feature_repo.files import write_file
from feature_repo.lock import locked
from serving.control.flag_audit import Change, FlagAudit
from serving.control.flags import Flags, FlagsError, changed, encode_flags, parse_flags
from serving.control.last_good import keep
from serving.control.reloading import stamp_of
from serving.control.reserve import Reserve

log = logging.getLogger(__name__)

BY_HAND = "file"
"""Who an edit of the file itself is put down to."""


class FlagsNotStoredError(FlagsError):
    """A change that could not be written: nothing on disk changed.

    Attributes:
        flags: what would be in force.
    """

    def __init__(self, flags: Flags, error: OSError) -> None:
        self.why = error.strerror or str(error)
        super().__init__("", f"flags: nothing was changed, the flags folder cannot be written ({self.why})")
        self.flags = flags


class FlagStore:
    """``flags.json`` (edit it, or `change` it) and ``audit.jsonl`` below `root`; safe between processes.

    Args:
        clock: gives the time of a change.
        kept: folder for a copy of the flags in force, for when `root` is gone.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime], kept: Path | None = None) -> None:
        self.root = root
        self.path = root / "flags.json"
        self._audit = FlagAudit(root / "audit.jsonl")
        self._reserve = Reserve(root / ".reserve")
        self._clock = clock
        self._copy = None if kept is None else kept / "flags.json"
        self._held: Flags | None = None

    def stamp(self) -> tuple[object, ...]:
        """Changes with the flags in force."""
        return stamp_of(self.path, self._audit.path)

    def load(self) -> Flags:
        """The flags in force; of a missing file those last noted, the defaults where none ever were.

        Raises:
            FlagsError: the file is malformed.
        """
        try:
            done = self.history()
        except OSError as error:  # the file says it as well, unless a change is not written to it yet
            log.error("%s cannot be read (%s)", self._audit.path, error)
            done = []
        if self._unwritten(done):
            return done[-1].after
        try:
            return parse_flags(self.path.read_bytes())
        except FileNotFoundError:
            return self._last_of(done) or Flags()

    def last_good(self) -> Flags | None:
        """The set last noted as in force, whatever became of the file; `None` where none ever was."""
        return self._last_of(self.history())

    def history(self) -> list[Change]:
        """All changes, oldest first."""
        return self._audit.history()

    def change(self, changes: Mapping[str, Any], who: str) -> Flags:
        """Replace some flags.

        Raises:
            FlagsError: a flag or value cannot be; nothing is changed then.
            FlagsNotStoredError: the change cannot be written.
        """
        try:
            with locked(self.root / ".lock"):
                before = self._adopt()
                after = changed(before, changes)
                if after != before:
                    self._put(after, who, before)
                return after
        except OSError as error:
            raise FlagsNotStoredError(changed(self.load(), changes), error) from error

    def rollback(self, who: str) -> Flags:
        """Back to the set before the one in force; again, to the one before that.

        Of a file that is malformed or gone, which never was in force, the way back is the last good set.

        Raises:
            FlagsError: there is no earlier set.
            FlagsNotStoredError: the change cannot be written.
        """
        try:
            with locked(self.root / ".lock"):
                try:
                    self._check_there()
                    self._adopt()
                except FlagsError:
                    good = self.last_good() or Flags()
                    write_file(self.path, encode_flags(good))
                    return good
                done = self.history()
                target, after = self._earlier(done)
                self._put(after, who, done[-1].after, target)
                return after
        except OSError as error:
            raise FlagsNotStoredError(self._earlier(self.history())[1], error) from error

    def adopt(self) -> Flags:
        """The flags in force. An edit of the file is noted once, whichever process sees it first.

        An audit log that cannot be written (a full disk) holds nothing up: a kill switch works all the same.

        Raises:
            FlagsError: the file is malformed, or gone though flags were set; nothing is noted.
        """
        try:
            self._check_there()
            with locked(self.root / ".lock"):
                flags = self._adopt()
                self._reserve.fill()
        except OSError as error:
            flags = self.load()
            log.error("%s: a change of the flags could not be noted (%s)", self._audit.path, error)
        self._keep(flags)
        return flags

    def _earlier(self, done: Sequence[Change]) -> tuple[int, Flags]:
        """Version and set before those in force."""
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
                f"flags: version {target} is no longer readable in {self._audit.path.name}; set them anew"
            )
            raise FlagsError("", message)
        return target, by_version[target] if target else done[0].before

    def _unwritten(self, done: Sequence[Change]) -> bool:
        """Whether the file has yet to follow the newest change."""
        return bool(done) and done[-1].replaces is not None and done[-1].replaces == self._identity()

    def _identity(self) -> str:
        (stamp,) = stamp_of(self.path)
        return "" if stamp is None else "-".join(map(str, stamp))

    def _last_of(self, done: Sequence[Change]) -> Flags | None:
        if done:
            return done[-1].after
        if self._copy is not None and self._copy.exists():
            return parse_flags(self._copy.read_bytes())
        return self._held

    def _check_there(self) -> None:
        """A file that is gone is no edit: were it the defaults, a kill switch would be off unasked."""
        if self.path.exists():
            return
        done = self.history()
        if self._last_of(done) is not None and not self._unwritten(done):
            message = f"flags: {self.path} is gone; put it back, or `headrace flags rollback`"
            raise FlagsError("", message)

    def _adopt(self) -> Flags:
        done = self.history()
        flags = self.load()
        if self._unwritten(done):
            self._follow(flags)
            return flags
        noted = self._last_of(done) or Flags()
        if flags != noted:
            self._note(flags, BY_HAND, noted)
        return flags

    def _put(self, flags: Flags, who: str, before: Flags, content: int | None = None) -> None:
        if not self.path.exists():
            self._follow(before)  # so that a file which is gone later is told from one not written yet
        self._note(flags, who, before, content, self._identity())
        self._follow(flags)
        self._reserve.fill()
        self._keep(flags)

    def _note(
        self, flags: Flags, who: str, before: Flags, content: int | None = None, replaces: str | None = None
    ) -> None:
        done = self.history()
        version = done[-1].version + 1 if done else 1
        change = Change(
            version=version,
            content=version if content is None else content,
            who=who,
            when=self._clock(),
            before=before,
            after=flags,
            replaces=replaces,
        )
        self._reserve.spend_on(lambda: self._audit.append(change))

    def _follow(self, flags: Flags) -> None:
        """Bring the file up to the newest change; where that fails, the change is in force all the same."""
        try:
            self._reserve.spend_on(lambda: write_file(self.path, encode_flags(flags)))
        except OSError as error:
            log.error(
                "%s cannot be written (%s); %s says what is in force", self.path, error, self._audit.path
            )

    def _keep(self, flags: Flags) -> None:
        """Remember flags for when the folder is gone; a missing file says the defaults by itself."""
        self._held = None if flags == Flags() else flags
        if self._copy is None:
            return
        try:
            if self._held is None:
                self._copy.unlink(missing_ok=True)
                return
            keep(self._copy, encode_flags(flags))
        except OSError as error:
            log.error("%s: the flags could not be kept for a later start (%s)", self._copy, error)


def whoami() -> str:
    """The user of this process, for the audit log of the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
