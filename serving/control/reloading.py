"""Things that change while serving runs: loaded aside, swapped whole, the last good one kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from feature_repo.errors import HeadraceError
from serving.control.flags import Flags
from serving.control.rules import Rules

if TYPE_CHECKING:
    from serving.items.item_snapshot import ItemSnapshot
    from serving.scoring.blend import Blend

log = logging.getLogger(__name__)
T = TypeVar("T")
RETRY_S = 5.0
STOP_S = 5.0
DEFAULT_FLAGS = Flags()
NO_RULES = Rules()


class Model(Struct, frozen=True, eq=False):
    """What a request is scored with: item features, blend, flags and rules, each as of one version."""

    snapshot: ItemSnapshot | None
    blend: Blend | None
    flags: Flags = DEFAULT_FLAGS
    rules: Rules = NO_RULES


class Watched(Generic[T]):
    """A value loaded from files, reloaded when its stamp changes.

    Reading `value` is one attribute read: a reader holds one whole version for as long as it keeps it.

    Args:
        name: for the log and the failure counter.
        stamp: cheap description of what is on disk; a change makes `refresh` load.
        load: reads the value; a raise keeps the last good one.
        initial: what is held where nothing good is known.
        on_failure: told the name of what could not be loaded, once for each stamp.
        retry_s: how long after a failure the same file is tried again.
        last_good: reads what was in force before this process, `None` where that is not known; asked where
            the first load fails, so that a worker that starts on a broken file agrees with those that run.
    """

    def __init__(
        self,
        name: str,
        stamp: Callable[[], object],
        load: Callable[[], T],
        initial: T,
        on_failure: Callable[[str], None] = lambda _: None,
        *,
        retry_s: float = RETRY_S,
        last_good: Callable[[], T | None] = lambda: None,
    ) -> None:
        self.name = name
        self.value: T = initial
        self._stamp = stamp
        self._load = load
        self._seen: object = None
        self._missed = False
        self._failing = False
        self._again = inf
        self._retry_s = retry_s
        self._on_failure = on_failure
        self._last_good = last_good
        self._good = False
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """What is held: ``ok``, or after a failure ``last_good`` or ``none``."""
        if not self._failing:
            return "ok"
        return "last_good" if self._good else "none"

    def refresh(self) -> bool:
        """Load if the stamp changed; whether the value was swapped."""
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen and monotonic() < self._again:
                return False
            if not self._missed and _vanished(stamp, self._seen):
                self._missed = True  # an editor may be about to put the new file there
                return False
            known, self._seen, self._again, self._missed = stamp == self._seen, stamp, inf, False
            try:
                self.value = self._load()
            except Exception as error:
                # What passes by itself (a full disk, too many open files) is tried again; told once.
                self._again = monotonic() + self._retry_s
                taken = not self._good and self._take_last_good()
                self._failing = True
                if not known:
                    self._tell(error)
                return taken
            self._good, self._failing = True, False
            return True

    def _take_last_good(self) -> bool:
        try:
            kept = self._last_good()
        except Exception as error:
            log.warning("%s: what was in force before this start cannot be read (%s)", self.name, error)
            return False
        if kept is None:
            return False
        self.value, self._good = kept, True
        return True

    def _tell(self, error: Exception) -> None:
        held = "the last good one stays" if self._good else "no good one is known, so none is held"
        # What we say ourselves names file and reason; anything else is a defect.
        trace = None if isinstance(error, HeadraceError) else error
        log.error("%s cannot be loaded; %s: %s", self.name, held, error, exc_info=trace)
        self._on_failure(self.name)


class Watcher:
    """A thread that refreshes, every `interval_s`, whatever it was given."""

    def __init__(self, refreshes: Sequence[Callable[[], object]], interval_s: float, name: str) -> None:
        self._refreshes = tuple(refreshes)
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        """Begin watching."""
        self._thread.start()

    def stop(self) -> None:
        """End watching; waits for the thread, but not for a disk that hangs."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            for refresh in self._refreshes:
                try:
                    refresh()
                except Exception:
                    log.exception("a refresh failed; trying again in %g s", self._interval_s)


def _vanished(stamp: object, seen: object) -> bool:
    """Whether a file that was there is not."""
    if not (isinstance(stamp, tuple) and isinstance(seen, tuple)):
        return False
    return any(now is None and was is not None for now, was in zip(stamp, seen, strict=True))


def stamp_of(*paths: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Identity of files as they are now: inode, size and time of change of each; `None` for a missing one."""
    stamps: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(stamps)
