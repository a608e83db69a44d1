"""Real processes: started, watched, stopped politely, killed when they will not."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_repo.errors import SettingsError
from feature_repo.settings import Settings
from orchestration.processes.children import Child, Children, ProcessError, headrace
from orchestration.processes.up import answers, free_port

POLITE = "import sys, signal, time\nsignal.signal(15, lambda *a: sys.exit(0))\n" + (
    "print('up', flush=True)\ntime.sleep(99)"
)
DEAF = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(99)"
PARENT = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
    "print('child', child.pid, flush=True)\ntime.sleep(99)"
)


@pytest.fixture
def child(tmp_path: Path) -> Callable[[str], Child]:
    count = iter(range(100))

    def make(code: str) -> Child:
        name = f"child{next(count)}"
        return Child(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")

    return make


def up(child: Child) -> Callable[[], bool]:
    return lambda: bool(child.said())


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie of somebody else does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_polite_children_end_by_themselves(child: Callable[[str], Child]) -> None:
    with Children() as children:
        first, second = children.start(child(POLITE)), children.start(child(POLITE))
        assert children.wait_for("both", lambda: up(first)() and up(second)(), 20)
        assert (first.code, second.code) == (None, None)
    assert (first.code, second.code) == (0, 0)


def test_a_deaf_child_is_killed_after_the_grace_time(child: Callable[[str], Child]) -> None:
    with Children(grace_s=0.2) as children:
        deaf = children.start(child(DEAF))
        children.wait_for("it", up(deaf), 20)
    assert deaf.code == -9
    assert deaf.gone()


def test_grandchildren_end_with_their_group(child: Callable[[str], Child]) -> None:
    with Children() as children:
        parent = children.start(child(PARENT))
        children.wait_for("it", up(parent), 20)
        grandchild = int(parent.said().split()[1])
        assert alive(grandchild)
    deadline = time.monotonic() + 10
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(grandchild)


def test_a_child_that_dies_ends_the_wait_and_stops_the_rest(child: Callable[[str], Child]) -> None:
    polite = child(POLITE)
    with Children() as children:
        children.start(polite)
        children.wait_for("polite", up(polite), 20)
        children.start(child("print('no such broker'); raise SystemExit(3)"))
        with pytest.raises(ProcessError) as caught:
            children.wait_for("never", lambda: False, 20)
    message = str(caught.value)
    assert "child1 ended with code 3" in message
    assert "no such broker" in message
    assert "child1.log" in message
    assert polite.gone()


def test_watching_raises_when_one_dies(child: Callable[[str], Child]) -> None:
    with Children() as children:
        children.start(child("raise SystemExit(4)"))
        with pytest.raises(ProcessError, match="child0 ended with code 4"):
            children.run()


def test_a_wait_has_an_end(child: Callable[[str], Child]) -> None:
    with Children() as children:
        children.start(child(POLITE))
        with pytest.raises(ProcessError, match=r"serving did not answer within 0.1 s; see .*child0.log"):
            children.wait_for("serving", lambda: False, 0.1)


def test_asked_to_stop_waiting_ends(child: Callable[[str], Child]) -> None:
    stop = threading.Event()
    stop.set()
    with Children(stop) as children:
        children.start(child(POLITE))
        assert not children.wait_for("never", lambda: False, 20)
        children.run()


def test_headrace_children_get_home_clock_and_changed_settings(settings: Settings) -> None:
    made = headrace("serving", ["serve", "--port", "0"], settings, online_store="redis")
    assert made.args == [sys.executable, "-m", "orchestration.cli", "serve", "--port", "0"]
    assert made.env == {
        "HEADRACE_HOME": str(settings.home.resolve()),
        "HEADRACE_CLOCK_OFFSET_S": "0.0",
        "HEADRACE_ONLINE_STORE": "redis",
    }
    assert made.log == settings.home.resolve() / "logs" / "serving.log"


def test_a_taken_port_is_refused_with_the_setting_to_change() -> None:
    port = free_port("127.0.0.1", 0)
    assert port > 0
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=f"HEADRACE_DAGSTER_PORT={number}: cannot listen on 127.0.0.1"
        ):
            free_port("127.0.0.1", number)
        assert not answers(f"http://127.0.0.1:{free_port('127.0.0.1', 0)}/readyz")


def test_a_child_leads_its_own_group(child: Callable[[str], Child]) -> None:
    with Children() as children:
        made = children.start(child(POLITE))
        assert os.getpgid(made.pid) == made.pid != os.getpgid(0)
