"""`headrace up` with its real processes: they answer, a Ctrl-C ends all, one that dies is started again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import ROOT, command, environment, readable_by_others

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("up")]
DEADLINE_S = 150


def pids_of(marker: str) -> set[int]:
    """Live processes whose environment holds the marker: those of this test's home, and theirs."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            holds = marker.encode() in (folder / "environ").read_bytes()
            zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if holds and not zombie:
            found.add(int(folder.name))
    return found


def wait_until(condition: Callable[[], bool], what: str, said: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {DEADLINE_S} s:\n{said()}"
        time.sleep(0.05)


class Up:
    """A running ``headrace up``."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command("up"),
                env=environment(self.home, port=0, dagster_port=0, docs_port=0, stream_metrics_port=0),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,
            )

    def said(self) -> str:
        return self.output.read_text()

    def all_run(self) -> bool:
        assert self.process.poll() is None, self.said()
        return "all three are running" in self.said()

    def others(self) -> set[int]:
        return pids_of(f"HEADRACE_HOME={self.home}") - {self.process.pid}


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    for pid in running.others() | {running.process.pid}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    running.process.wait()


def test_all_three_answer_and_ctrl_c_stops_them(up: Up) -> None:
    wait_until(up.all_run, "start", up.said)
    said = up.said()
    serving, dagster = (re.search(rf"{name}\s+(http://\S+)", said) for name in ("serving", "dagster"))
    assert serving, said
    assert dagster, said
    assert httpx.get(f"{serving[1]}/healthz").status_code == 200
    answer = httpx.post(f"{serving[1]}/v1/rank", json={"candidates": [{"item_id": "b"}, {"item_id": "a"}]})
    assert [i["item_id"] for i in answer.json()["items"]] == ["b", "a"]
    assert "dagster_webserver_version" in httpx.get(f"{dagster[1]}/server_info").text
    assert len(up.others()) >= 3
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert "stopped" in up.said()
    assert not up.others()
    assert "Traceback" not in up.said()
    assert readable_by_others(up.home) == []


def running(up: Up, command: bytes) -> list[int]:
    """Processes of this `up` that run a command; one between fork and exec runs none yet."""
    found = []
    for process in up.others():
        with contextlib.suppress(OSError):
            if command in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                found.append(process)
    return found


def test_one_that_dies_is_started_again_and_the_rest_goes_on(up: Up) -> None:
    wait_until(lambda: bool(running(up, b"stream")), "start of the stream", up.said)
    serving, stream = running(up, b"serve"), running(up, b"stream")
    assert serving, "serving comes first"
    os.kill(stream[0], signal.SIGKILL)
    wait_until(lambda: "restarted" in up.said(), "restart of the stream", up.said)
    wait_until(lambda: bool(running(up, b"stream")), "the stream", up.said)
    said = " ".join(up.said().split())
    assert "stream restarts in 1 s; stream ended with code -9" in said
    assert "stream.log" in said
    assert running(up, b"serve") == serving
    assert running(up, b"stream") != stream
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert not up.others()


def test_ctrl_c_while_starting_stops_what_has_started(up: Up) -> None:
    wait_until(lambda: len(up.others()) >= 2, "start", up.said)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert not up.others()
