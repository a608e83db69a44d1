"""Dagster's daemon as a process on ``workspace.yaml``, with its own home."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from feature_repo.home import Home
from orchestration.processes.dagster_home import open_instance

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 480

Until = Callable[[Callable[[], bool]], None]


@contextmanager
def running_daemon(home: Home, env: Mapping[str, str], *location: str) -> Iterator[Until]:
    """Run the daemon until the context ends; yield a function that waits until a condition holds.

    Args:
        location: options that name the code location; ``workspace.yaml`` by default.
    """
    with open_instance(home) as instance:
        folder = instance.root_directory
    log = home.root / "daemon.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", *(location or ("-w", "workspace.yaml"))],
            cwd=ROOT,
            env={**os.environ, "HEADRACE_HOME": str(home.root), "DAGSTER_HOME": folder, **env},
            stdout=out,
            stderr=out,
        )

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)

    try:
        yield until
    finally:
        process.terminate()
        process.wait(60)
