"""`headrace serve` as a process: its address, its end, its one-line errors."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest


def command(home: Path, *arguments: str) -> subprocess.Popen[str]:
    # Budgets that a busy machine keeps, as in the other tests.
    budgets = {"HEADRACE_BUDGET_MS": "10000", "HEADRACE_STORE_BUDGET_MS": "5000"}
    env = {**os.environ, **budgets, "HEADRACE_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )


@contextmanager
def served(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = command(home, *arguments)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield process, found.group()
    finally:
        # The whole group: workers that outlive their parent would hold the pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with served(tmp_path, "--port", "0") as (process, address):
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=20) as client:
            assert client.get(f"{address}/healthz").json() == {"status": "ok"}
            body = {"candidates": [{"item_id": "a"}], "user_id": "u"}
            assert client.post(f"{address}/v1/rank", json=body).status_code == 200
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = command(tmp_path, "--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot listen (Address already in use)" in errors
    assert "HEADRACE_PORT" in errors
    assert "Traceback" not in errors


def workers_of(process: subprocess.Popen[str]) -> set[int]:
    """Processes that serve; the supervisor has others."""
    found = set()
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, and waits to be reaped
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def total_of(metrics: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name))


def test_workers_share_flags_and_metrics_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with served(tmp_path, "--port", "0", "--workers", "2") as (process, address):
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=30) as client:
            client.get(f"{address}/readyz")
        body = {"candidates": [{"item_id": "a"}], "user_id": "u"}

        def rank() -> dict[str, Any]:
            # A connection each: the kernel hands them to either worker.
            answer: dict[str, Any] = httpx.post(f"{address}/v1/rank", json=body, timeout=30).json()
            return answer

        ranked = 0
        deadline = time.monotonic() + 180  # two starts of everything, on a machine that may be busy
        while ranked < 30 or len(list((tmp_path / "metrics").glob("counter_*.db"))) < 2:
            assert rank()["degraded"] == ["items_missing"]
            ranked += 1
            assert time.monotonic() < deadline, "only one worker counts"
        shown = httpx.get(f"{address}/metrics", timeout=30).text
        assert f'headrace_ranks_total{{tier="base"}} {ranked}.0' in shown
        httpx.patch(f"{address}/v1/flags", json={"personalization": False}, timeout=30).raise_for_status()
        deadline = time.monotonic() + 30
        while any(rank()["degraded"] != ["personalization_off"] for _ in range(20)):
            assert time.monotonic() < deadline, "a worker does not follow the flags"

        before = workers_of(process)
        assert len(before) == 2
        os.kill(min(before), signal.SIGKILL)
        assert all(rank()["degraded"] == ["personalization_off"] for _ in range(20)), "the other answers"
        deadline = time.monotonic() + 60
        while len(workers_of(process)) < 2 or workers_of(process) == before:
            assert time.monotonic() < deadline, "no worker in the place of the one killed"
            time.sleep(0.05)
        counted = httpx.get(f"{address}/metrics", timeout=30).text
        assert f'headrace_ranks_total{{tier="base"}} {ranked}.0' not in counted
        assert total_of(counted, "headrace_ranks_total") > ranked, "what the dead worker counted is kept"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
