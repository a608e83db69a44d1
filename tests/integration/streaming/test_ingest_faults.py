"""Ingests that are killed, or run side by side, with the counts before and after."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_repo.home import Home
from feature_repo.lake.lake import Lake

EVENTS = 30_000


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    with path.open("w") as file:
        for n in range(EVENTS):
            click = {
                "record": "event",
                "event_id": f"e{n}",
                "event_type": "click",
                "event_time": f"2024-05-{1 + n % 28:02d}T10:00:00Z",
                "session_id": f"s{n % 997}",
                "item_id": "i1",
            }
            file.write(json.dumps(click) + "\n")
    return path


def start(home: Home, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "ingest", str(path)],
        env={**os.environ, "HEADRACE_HOME": str(home.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(home: Home) -> list[str]:
    ids: list[str] = []
    for name in Lake(home.lake).files("event"):
        ids += pq.read_table(name, columns=["event_id"]).column(0).to_pylist()
    return ids


def test_killed_four_times_at_random_moments_every_event_is_there_once(home: Home, events: Path) -> None:
    rng = random.Random(7)
    for _ in range(4):
        process = start(home, events)
        deadline = time.monotonic() + rng.uniform(0.4, 3.0)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        ids = stored(home)
        assert len(ids) == len(set(ids))
    process = start(home, events)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{EVENTS:,}" in out
    assert sorted(stored(home)) == sorted(f"e{n}" for n in range(EVENTS))


def test_two_ingests_of_the_same_file_at_once_store_each_event_once(home: Home, events: Path) -> None:
    pair = [start(home, events), start(home, events)]
    for process in pair:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert sorted(stored(home)) == sorted(f"e{n}" for n in range(EVENTS))
