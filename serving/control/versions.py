"""A value that people change while servers run: a log of its versions, and a file to read and edit.

The log is the truth: its last valid entry is in force, whatever becomes of the file. A change is one write,
its line in the log; the file is exported next. An edit of the file is imported, as a change by ``file``.
"""

from __future__ import annotations

import getpass
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from feature_repo.errors import HeadraceError, SettingsError
from feature_repo.files import write_file
from feature_repo.lock import locked
from serving.control.change_log import Change, ChangeLog
from serving.control.last_good import keep
from serving.control.reloading import stamp_of
from serving.control.reserve import Reserve

log = logging.getLogger(__name__)
T = TypeVar("T")

BY_HAND = "file"
"""Who is noted for an edit of the file."""


class NotStoredError(HeadraceError, Generic[T]):
    """A change that could not be written: nothing on disk changed.

    Attributes:
        value: what would be in force.
    """

    def __init__(self, name: str, value: T, error: OSError) -> None:
        self.why = error.strerror or str(error)
        super().__init__(f"{name}: nothing was changed, the flags folder cannot be written ({self.why})")
        self.value = value


class Versions(ABC, Generic[T]):
    """The versions of one value below `root`; safe between processes.

    Args:
        clock: gives the time of a change.
        kept: folder for a copy of the value in force, in case `root` disappears.
    """

    name: ClassVar[str]
    """Stem of the file, and the command that changes it."""
    log_name: ClassVar[str]
    entry: ClassVar[type[Change]]  # type: ignore[type-arg]  # a class variable cannot name T

    def __init__(self, root: Path, clock: Callable[[], datetime], kept: Path | None = None) -> None:
        self.root = root
        self.path = root / f"{self.name}.json"
        self._log: ChangeLog[T] = ChangeLog(root / self.log_name, self.entry)
        self._reserve = Reserve(root / ".reserve")
        self._clock = clock
        self._copy = None if kept is None else kept / f"{self.name}.json"
        self._held: T | None = None

    @abstractmethod
    def default(self) -> T:
        """Return what is in force before the first change."""

    @abstractmethod
    def parse(self, raw: bytes) -> T:
        """Read the file's content.

        Raises:
            HeadraceError: it is malformed; says what would be right.
        """

    @abstractmethod
    def encode(self, value: T) -> bytes:
        """Return the file's content."""

    def refusal(self, message: str) -> HeadraceError:
        """Return the error of a change that is impossible."""
        return SettingsError(f"{self.name}: {message}")

    def stamp(self) -> tuple[object, ...]:
        """Return a stamp that changes with the value in force."""
        return stamp_of(self.path, self._log.path)

    def load(self) -> T:
        """Return the value in force. An edit of the file is imported once, by the first process that sees it.

        A log that cannot be written (a full disk) delays nothing: an edit counts all the same.

        Raises:
            HeadraceError: the file is malformed, or file and log are gone though a value was set.
        """
        try:
            self._check_there()
            if not self.root.exists():
                return self.default()  # nothing was ever set; reading writes nothing
            with locked(self.root / ".lock"):
                value = self._import()
                self._reserve.fill()
        except OSError as error:
            value = self._unnoted()
            log.error("%s: a change of the %s could not be noted (%s)", self._log.path, self.name, error)
        self._keep(value)
        return value

    def last_good(self) -> T | None:
        """Return the value last in force, whatever became of the file; `None` if none was ever set."""
        done = self.history()
        return done[-1].after if done else self._kept()

    def history(self) -> list[Change[T]]:
        """Return all changes, oldest first."""
        return self._log.history()

    def update(self, change: Callable[[T], T], who: str) -> T:
        """Replace the value by a changed one.

        Args:
            change: makes the new value of the old one; raises to refuse.

        Raises:
            NotStoredError: the change cannot be written.
        """
        try:
            with locked(self.root / ".lock"):
                before = self._import()
                after = change(before)
                if after != before:
                    self._put(after, who)
                return after
        except OSError as error:
            raise NotStoredError(self.name, change(self._unnoted()), error) from error

    def rollback(self, who: str) -> T:
        """Return to the value before the one in force; repeat to go further back.

        A malformed file was never in force: it is replaced by the value that is.

        Raises:
            HeadraceError: there is no earlier value.
            NotStoredError: the change cannot be written.
        """
        try:
            with locked(self.root / ".lock"):
                try:
                    self._check_there()
                    self._import()
                except HeadraceError:
                    good = self._state(self.history())
                    write_file(self.path, self.encode(good))
                    return good
                target, after = self._earlier(self.history())
                self._put(after, who, target)
                return after
        except OSError as error:
            raise NotStoredError(self.name, self._earlier(self.history())[1], error) from error

    def _earlier(self, done: Sequence[Change[T]]) -> tuple[int, T]:
        """Return version and value before those in force."""
        if not done:
            msg = "nothing was ever changed, so there is nothing to go back to"
            raise self.refusal(msg)
        target = done[-1].content - 1
        if target < 0:
            msg = "the first value is in force already; there is no earlier one"
            raise self.refusal(msg)
        by_version = {change.version: change.after for change in done}
        if target and target not in by_version:
            msg = f"version {target} is no longer readable in {self._log.path.name}; set the value again"
            raise self.refusal(msg)
        return target, by_version[target] if target else done[0].before

    def _import(self) -> T:
        """Return the value in force, with the file and the log brought together."""
        done = self.history()
        value = self._state(done)
        if done and (self._is_behind(done) or not self.path.exists()):
            self._export(value)
            return value
        edited = self._read()
        if edited is None or edited == value:
            return value
        self._note(edited, BY_HAND)
        return edited

    def _unnoted(self) -> T:
        """Return the value in force where the log cannot be read or written."""
        try:
            done = self.history()
        except OSError as error:
            log.error("%s cannot be read (%s)", self._log.path, error)
            done = []
        edited = None if self._is_behind(done) else self._read()
        return self._state(done) if edited is None else edited

    def _state(self, done: Sequence[Change[T]]) -> T:
        if done:
            return done[-1].after
        try:
            kept = self._kept()
        except HeadraceError as error:
            log.error("%s: damaged, so it is ignored (%s)", self._copy, error)
            kept = None
        return self.default() if kept is None else kept

    def _read(self) -> T | None:
        """Return what the file says; `None` if there is none."""
        try:
            return self.parse(self.path.read_bytes())
        except FileNotFoundError:
            return None

    def _check_there(self) -> None:
        """Refuse to take a folder that is not mounted for the default: it would undo a kill switch."""
        if not self.path.exists() and not self.history() and self._kept() is not None:
            msg = f"{self.path} and its log are gone; put them back, or `headrace {self.name} rollback`"
            raise self.refusal(msg)

    def _is_behind(self, done: Sequence[Change[T]]) -> bool:
        """Return whether the newest change has not been exported yet."""
        return bool(done) and done[-1].replaces is not None and done[-1].replaces == self._identity()

    def _identity(self) -> str:
        (stamp,) = stamp_of(self.path)
        return "" if stamp is None else "-".join(map(str, stamp))

    def _put(self, value: T, who: str, content: int | None = None) -> None:
        self._note(value, who, content, self._identity())
        self._export(value)
        self._reserve.fill()
        self._keep(value)

    def _note(self, value: T, who: str, content: int | None = None, replaces: str | None = None) -> None:
        done = self.history()
        version = done[-1].version + 1 if done else 1
        change = self.entry(
            version=version,
            content=version if content is None else content,
            who=who,
            when=self._clock(),
            before=self._state(done),
            after=value,
            replaces=replaces,
        )
        self._reserve.spend_on(lambda: self._log.append(change))

    def _export(self, value: T) -> None:
        """Write the file; if that fails, the log is in force all the same."""
        try:
            self._reserve.spend_on(lambda: write_file(self.path, self.encode(value)))
        except OSError as error:
            log.error("%s cannot be written (%s); %s says what is in force", self.path, error, self._log.path)

    def _kept(self) -> T | None:
        if self._copy is not None and self._copy.exists():
            return self.parse(self._copy.read_bytes())
        return self._held

    def _keep(self, value: T) -> None:
        """Remember a value in case the folder disappears; the default needs no copy."""
        self._held = None if value == self.default() else value
        if self._copy is None:
            return
        try:
            if self._held is None:
                self._copy.unlink(missing_ok=True)
            else:
                keep(self._copy, self.encode(value))
        except OSError as error:
            log.error("%s: the %s could not be copied for a later start (%s)", self._copy, self.name, error)


def whoami() -> str:
    """Return the user of this process, for changes by the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
