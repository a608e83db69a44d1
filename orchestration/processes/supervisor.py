"""Keeps processes running: restarts each one that exits, with growing delays, beside the others."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from orchestration.processes.children import POLL_S, Child, Children

logger = logging.getLogger(__name__)


class Tell(Protocol):
    """Receives the name of a process and what happened to it; `ready` means it now answers."""

    def __call__(self, name: str, what: str, ready: bool = False, /) -> None:
        """Show the message."""
        ...


PENDING_S = 1.0
"""Interval at which a slow starter is polled again."""


@dataclass(frozen=True)
class Restarts:
    """Backoff for restarting a process.

    Attributes:
        first_s, longest_s: delay after the first failure, doubled after each further one, and its limit.
        steady_s: after running this long, a process has recovered and its failure count is reset.
        most: consecutive failures after which the process is given up.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    steady_s: float = 120.0
    most: int = 10

    def wait_s(self, failures: int) -> float:
        """Return the delay after this many consecutive failures."""
        return float(min(self.first_s * 2 ** (failures - 1), self.longest_s))


RESTARTS = Restarts()


@dataclass
class _Watched:
    child: Child
    started: float
    failures: int = 0
    due: float | None = None
    given_up: bool = False


@dataclass
class _Pending:
    name: str
    ready: Callable[[], bool]
    done: Callable[[], None]


@dataclass
class Supervisor:
    """Watches children and restarts those that exit.

    Args:
        children: stops them all at the end.
        tell: receives the name of a child and what happened to it.
        stop: when set, everything stops.
        log_bytes: size at which a log is rotated to ``<name>.log.1``.
    """

    children: Children
    tell: Tell
    stop: threading.Event
    restarts: Restarts = RESTARTS
    log_bytes: int = 32 << 20
    monotonic: Callable[[], float] = time.monotonic
    _watched: list[_Watched] = field(default_factory=list)
    _pending: list[_Pending] = field(default_factory=list)

    def start(self, child: Child) -> Child:
        """Start a child and watch it; start nothing once asked to stop."""
        if self.stop.is_set():
            return child
        self.children.start(child)
        self._watched.append(_Watched(child, self.monotonic()))
        return child

    def wait_for(
        self, name: str, ready: Callable[[], bool], done: Callable[[], None], timeout_s: float
    ) -> None:
        """Wait until a process is ready, then call `done`; `run` keeps polling a slow one."""
        pending = _Pending(name, ready, done)
        deadline = self.monotonic() + timeout_s
        while not self.stop.is_set() and not self._is_ready(pending):
            self.tend()
            if self.monotonic() > deadline:
                self.tell(
                    name, f"not ready after {timeout_s:g} s; it is still starting, the others keep running"
                )
                self._pending.append(pending)
                return
            if self.stop.wait(POLL_S):
                return

    def run(self) -> None:
        """Watch the children until asked to stop.

        Raises:
            ProcessError: all children are given up.
        """
        asked = self.monotonic()
        while not self.stop.wait(POLL_S):
            self.tend()
            if self.monotonic() - asked >= PENDING_S:
                asked = self.monotonic()
                self._pending = [one for one in self._pending if not self._is_ready(one)]
                for one in self._watched:
                    bound_log(one.child.log, self.log_bytes)

    def tend(self) -> None:
        """Register exits, and restart children whose delay is over.

        Raises:
            ProcessError: all children are given up.
        """
        for one in self._watched:
            if one.given_up:
                continue
            if one.due is None and one.child.code is not None:
                self._ended(one)
            elif one.due is not None and self.monotonic() >= one.due:
                self._start_again(one)
        if self._watched and all(one.given_up for one in self._watched):
            raise self._watched[-1].child.ended()

    def _ended(self, one: _Watched) -> None:
        now = self.monotonic()
        one.failures = 1 if now - one.started >= self.restarts.steady_s else one.failures + 1
        one.child.signal(signal.SIGTERM)  # stop the rest of its group
        said = str(one.child.ended())
        if one.failures >= self.restarts.most:
            one.given_up = True
            self.tell(one.child.name, f"given up after {one.failures} consecutive failures; {said}")
            return
        wait_s = self.restarts.wait_s(one.failures)
        one.due = now + wait_s
        self.tell(one.child.name, f"restarts in {wait_s:g} s; {said}")

    def _start_again(self, one: _Watched) -> None:
        if not one.child.gone():
            one.child.signal(signal.SIGKILL)
            return
        try:
            one.child.start()
        except OSError as error:
            logger.warning("%s: could not be started (%s)", one.child.name, error)
            one.due = self.monotonic() + self.restarts.longest_s
            return
        one.started, one.due = self.monotonic(), None
        self.tell(one.child.name, "restarted")

    def _is_ready(self, pending: _Pending) -> bool:
        if not pending.ready():
            return False
        pending.done()
        return True


def bound_log(log: Path, most_bytes: int) -> None:
    """Rotate a log that is too large to ``.1``. Its writer appends, so it continues from 0.

    A line written between copying and truncating is lost.
    """
    try:
        if log.stat().st_size > most_bytes:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            with log.open("r+b") as file:
                file.truncate(0)
    except OSError as error:
        logger.debug("%s: not truncated (%s)", log, error)
