"""`headrace stream` as a process: started, watched, stopped and killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.settings import Settings
from streaming.dataflow.service import run_stream
from streaming.sessions.heartbeat import Heartbeat, read_heartbeats

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 90.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll a condition until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    pytest.fail(f"not within {DEADLINE_S:.0f} s: {what}")


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment for these settings, without metrics unless they name a port."""
    given = {"stream_metrics_port": 0, **settings.model_dump(exclude_unset=True)}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "RUST_"))}
    return {**kept, **{f"HEADRACE_{name}".upper(): _text(value) for name, value in given.items()}}


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def start(settings: Settings, *arguments: str, said: Path | None = None) -> subprocess.Popen[bytes]:
    """Run ``headrace stream ARGUMENTS`` with its output in a file."""
    return run([sys.executable, "-m", "orchestration.cli", "stream", *arguments], settings, said)


def run(command: list[str], settings: Settings, said: Path | None = None) -> subprocess.Popen[bytes]:
    """Run a command in its own process group, so that killing it kills its workers as well."""
    with (said or Path(os.devnull)).open("wb") as output:
        return subprocess.Popen(
            command,
            env=environment(settings),
            cwd=ROOT,
            stdout=output,
            stderr=None if said is None else subprocess.STDOUT,
            start_new_session=True,
        )


def forked(settings: Settings) -> BaseProcess:
    """Run the flow in a forked process with its modules already imported, so that it starts quickly."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["streaming.dataflow.service", "streaming.dataflow.workers"])
    process = context.Process(target=run_stream, args=(settings,), name="stream")
    process.start()
    return process


@contextmanager
def streaming(
    settings: Settings, *arguments: str, said: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a stream within the block; at its end, stop it and check that it exits cleanly."""
    process = start(settings, *arguments, said=said)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                assert process.wait(30) == 0
            finally:
                kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 the whole group, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def heartbeats(settings: Settings) -> list[Heartbeat]:
    """Return the stream's last heartbeat of each partition."""
    store = open_store(settings, Home(settings.home))
    try:
        return read_heartbeats(store)
    finally:
        store.close()
