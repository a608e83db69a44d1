"""Changes flags for the admin routes. A change that cannot be stored is kept in memory and retried."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

import msgspec

from serving.control.flag_store import FlagStore
from serving.control.flags import Flags, changed
from serving.control.versions import NotStoredError

log = logging.getLogger(__name__)

RETRY_S = 5.0


class FlagControl:
    """The flags of one worker: those of the store, plus changes that could not be stored yet.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, store: FlagStore, clock: Callable[[], float] = monotonic) -> None:
        self.store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Any] = {}
        self._who = ""
        self._version = 0
        self._again = 0.0

    @property
    def unstored(self) -> tuple[str, ...]:
        """Flags that are changed only in this worker's memory."""
        return tuple(self._held)

    def stamp(self) -> tuple[object, ...]:
        """Return a stamp that changes with the flags in force here."""
        return (*self.store.stamp(), self._version)

    def load(self) -> Flags:
        """Load the flags in force here.

        Raises:
            FlagsError: the file is malformed or missing.
        """
        return changed(self.store.load(), self._held)

    def change(self, changes: Mapping[str, Any], who: str) -> Flags:
        """Change some flags, and retry changes that are not stored yet.

        Raises:
            FlagsError: a flag or value is invalid; nothing is changed.
            NotStoredError: the change is in force in this worker only.
        """
        with self._lock:
            return self._store({**self._held, **changes}, who)

    def rollback(self, who: str) -> Flags:
        """Return to the previous set, or to the stored one if changes are not stored yet.

        Raises:
            FlagsError: there is no earlier set.
            NotStoredError: the previous set is in force in this worker only.
        """
        with self._lock:
            if self._held:
                self._hold({}, who)
                return self.store.load()
            try:
                return self.store.rollback(who)
            except NotStoredError as error:
                self._hold(msgspec.to_builtins(error.value), who)
                raise

    def retry(self) -> None:
        """Retry to store pending changes, if the retry interval has passed."""
        if not self._held or self._clock() < self._again:
            return
        with self._lock:
            try:
                self._store(self._held, self._who)
            except NotStoredError as error:
                log.warning("flags: %s still cannot be stored (%s)", ", ".join(self._held), error.why)

    def _store(self, changes: dict[str, Any], who: str) -> Flags:
        try:
            after = self.store.change(changes, who)
        except NotStoredError:
            self._hold(changes, who)
            raise
        if self._held:
            self._hold({}, who)
        return after

    def _hold(self, changes: dict[str, Any], who: str) -> None:
        self._held, self._who = changes, who
        self._version += 1
        self._again = self._clock() + RETRY_S
