"""Several workers and one experiment: a unit counts once, whichever workers saw it or are scraped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from feature_repo.clock import wall_clock
from feature_repo.home import Home
from serving.control.experiments import Arm, Experiment, assign
from serving.control.flag_store import FlagStore

UNITS = re.compile(r'^headrace_experiment_units\{arm="(\w+)",experiment="even"\} (.+)$', re.MULTILINE)


@contextmanager
def two_workers(home: Path) -> Iterator[str]:
    """The address of `headrace serve --workers 2`."""
    budgets = {"HEADRACE_BUDGET_MS": "10000", "HEADRACE_STORE_BUDGET_MS": "5000"}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "serve", "--port", "0", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **budgets, "HEADRACE_HOME": str(home), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        yield found.group()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_units_are_those_of_both_workers_each_once(tmp_path: Path) -> None:
    even = Experiment(name="even", arms={"a": Arm(), "b": Arm()})
    home = Home(tmp_path).ensure()
    FlagStore(home.flags, wall_clock).change(
        {"experiments": [{"name": "even", "arms": {"a": {}, "b": {}}}], "holdout": 0.0}, "test"
    )
    with two_workers(tmp_path) as address:

        def rank(user: str) -> None:
            # One connection each, here and below: the kernel assigns them to either worker.
            body = {"candidates": [{"item_id": "a"}], "user_id": user}
            answer = httpx.post(f"{address}/v1/rank", json=body, timeout=60).raise_for_status().json()
            assert answer["arms"] == {"even": assign([even], 0.0, user, None).arms["even"]}

        def shown() -> dict[str, float]:
            text = httpx.get(f"{address}/metrics", timeout=60).text
            return {arm: float(count) for arm, count in UNITS.findall(text)}

        users: list[str] = []
        deadline = time.monotonic() + 180  # two full starts on a possibly busy machine
        while len(list(home.metrics.glob("*.units"))) < 2:  # each worker has seen some units
            assert time.monotonic() < deadline, "only one worker answers"
            new = [f"user-{n}" for n in range(len(users), len(users) + 10)]
            for user in new:
                rank(user)
            users += new
            shown()
        for user in users[:10]:  # now likely at the other worker
            rank(user)
        arms = [assign([even], 0.0, user, None).arms["even"] for user in users]
        expected = {arm: float(arms.count(arm)) for arm in "ab"}
        while not all(shown() == expected for _ in range(10)):
            assert time.monotonic() < deadline, (shown(), expected)
