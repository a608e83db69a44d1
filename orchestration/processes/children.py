"""Child processes, each in its own process group, stopped together by id."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.settings import ENV_PREFIX, Settings

logger = logging.getLogger(__name__)

GRACE_S = 20.0
"""Dagster alone takes half of this on a busy machine."""
POLL_S = 0.05
TAIL_LINES = 12


class ProcessError(HeadraceError):
    """A child process ended, or did not answer in time; the message has its last log lines."""


@dataclass
class Child:
    """One process and its log file.

    Attributes:
        name: display name (``stream``).
        args: the command line, interpreter first.
        log: receives the output; the previous start's output is kept as ``<name>.log.1``.
        env: additions to this process's environment.
    """

    name: str
    args: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Child:
        """Start the process in its own session, so that Ctrl-C at the terminal reaches only the parent."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.args,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        logger.info("%s: started as process %d", self.name, self._process.pid)
        return self

    @property
    def pid(self) -> int:
        """Id of the process and of its group."""
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code; `None` while the process runs."""
        return None if self._process is None else self._process.poll()

    def said(self) -> str:
        """Return all output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ended(self) -> ProcessError:
        """Create the error for an unexpected exit."""
        tail = "\n".join(f"    {line}" for line in self.said().splitlines()[-TAIL_LINES:])
        msg = f"{self.name} ended with code {self.code}; the last lines of {self.log}:\n{tail}"
        return ProcessError(msg)

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; ignore a group that is already gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def gone(self) -> bool:
        """Return whether no process of the group is left."""
        if self._process is None:
            return True
        self._process.poll()
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Children:
    """Child processes with a common lifetime; leaving the context stops those still running.

    Args:
        stop: when set, waiting ends.
        grace_s: time a child may take to exit before it is killed.
    """

    def __init__(self, stop: threading.Event | None = None, grace_s: float = GRACE_S) -> None:
        self._children: list[Child] = []
        self._stop = stop or threading.Event()
        self._grace_s = grace_s

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, child: Child) -> Child:
        """Start a child and track it."""
        self._children.append(child.start())
        return child

    def check(self) -> None:
        """Raise if a child has ended.

        Raises:
            ProcessError: a child ended; has its name and last log lines.
        """
        for child in self._children:
            if child.code is not None:
                raise child.ended()

    def wait_for(self, what: str, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Poll until `ready` returns true; a child that ends stops the wait.

        Returns:
            whether it became ready; false if asked to stop.

        Raises:
            ProcessError: a child ended, or `timeout_s` passed.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                logs = ", ".join(str(c.log) for c in self._children)
                msg = f"{what} did not answer within {timeout_s:g} s; see {logs}"
                raise ProcessError(msg)
            if self._stop.wait(POLL_S):
                return False
        return True

    def run(self) -> None:
        """Watch the children until asked to stop.

        Raises:
            ProcessError: a child ended by itself.
        """
        while not self._stop.wait(POLL_S):
            self.check()

    def stop(self) -> None:
        """Send SIGTERM to every group, SIGKILL to the rest after the grace time; return when all are gone."""
        for child in self._children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while not all(c.gone() for c in self._children) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for child in self._children:
            if not child.gone():
                logger.warning("%s: did not exit within %g s, killed", child.name, self._grace_s)
                child.signal(signal.SIGKILL)
        while not all(c.gone() for c in self._children):
            time.sleep(POLL_S)


def headrace(name: str, arguments: Sequence[str], settings: Settings, **overrides: object) -> Child:
    """Create a child that runs ``headrace <arguments>`` with `settings` and the given overrides."""
    home = Home(settings.home.resolve())
    changed = {"home": home.root, "clock_offset_s": settings.clock_offset_s, **overrides}
    return Child(
        name=name,
        args=[sys.executable, "-m", "orchestration.cli", *arguments],
        log=home.root / "logs" / f"{name}.log",
        env={f"{ENV_PREFIX}{key}".upper(): str(value) for key, value in changed.items()},
    )
