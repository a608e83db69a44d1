"""Processes that run beside this one: started in groups of their own, stopped together, by id."""

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
"""Dagster alone takes half of it on a busy machine."""
POLL_S = 0.05
TAIL_LINES = 12


class ProcessError(HeadraceError):
    """A process beside this one ended, or did not answer in time; holds its last lines."""


@dataclass
class Child:
    """One process and its log file.

    Attributes:
        name: what it is, for people (``stream``).
        args: of the command, the interpreter first.
        log: receives its output; what an earlier start said is kept as ``<name>.log.1``.
        env: added to this process's environment.
    """

    name: str
    args: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Child:
        """Start it in a session of its own, so that a Ctrl-C at the terminal reaches only us."""
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
        """Id of the process, which is also that of its group."""
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; `None` while it runs."""
        return None if self._process is None else self._process.poll()

    def said(self) -> str:
        """All of its output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ended(self) -> ProcessError:
        """What to say when it ended and should not have."""
        tail = "\n".join(f"    {line}" for line in self.said().splitlines()[-TAIL_LINES:])
        msg = f"{self.name} ended with code {self.code}; the last lines of {self.log}:\n{tail}"
        return ProcessError(msg)

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; one that is gone already is no error."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def gone(self) -> bool:
        """Whether no process of the group is left."""
        if self._process is None:
            return True
        self._process.poll()
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Children:
    """Children that live and end together; leaving the context stops those still running.

    Args:
        stop: when set, waiting ends.
        grace_s: how long a child may take to end before it is killed.
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
        """Start a child and keep it."""
        self._children.append(child.start())
        return child

    def check(self) -> None:
        """Raise if one has ended.

        Raises:
            ProcessError: names it, with its last lines.
        """
        for child in self._children:
            if child.code is not None:
                raise child.ended()

    def wait_for(self, what: str, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Poll until `ready`; a child that ends in the meantime ends the wait.

        Returns:
            whether it became ready; false when asked to stop.

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
        """Watch them until asked to stop.

        Raises:
            ProcessError: one has ended by itself.
        """
        while not self._stop.wait(POLL_S):
            self.check()

    def stop(self) -> None:
        """SIGTERM to every group, SIGKILL to what is left after the grace time; returns once all are gone."""
        for child in self._children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while not all(c.gone() for c in self._children) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for child in self._children:
            if not child.gone():
                logger.warning("%s: did not end within %g s, killed", child.name, self._grace_s)
                child.signal(signal.SIGKILL)
        while not all(c.gone() for c in self._children):
            time.sleep(POLL_S)


def headrace(name: str, arguments: Sequence[str], settings: Settings, **overrides: object) -> Child:
    """A child that runs ``headrace <arguments>`` on the home of `settings`, with further settings changed."""
    home = Home(settings.home.resolve())
    changed = {"home": home.root, "clock_offset_s": settings.clock_offset_s, **overrides}
    return Child(
        name=name,
        args=[sys.executable, "-m", "orchestration.cli", *arguments],
        log=home.root / "logs" / f"{name}.log",
        env={f"{ENV_PREFIX}{key}".upper(): str(value) for key, value in changed.items()},
    )
