"""Time from posting an event until `/v1/rank` uses it, while 2,000 events/s arrive; on Redis and embedded.

API, stream and store are separate processes. A probe posts one click of a new session. Its clock runs from
before the POST until an answer of `/v1/rank` uses that session's features.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target, latency_rows

if TYPE_CHECKING:
    from benchmarks._rig import Stage

SECONDS = 60.0
EVENTS_PER_S = 2000
POST_EVERY_S = 0.01
PROBE_EVERY_S = 0.1
GIVE_UP_S = 20.0
SESSIONS = 20_000
TARGETS = {
    "freshness": Target(30.0),
    "freshness_p99": Target(100.0),
    "freshness_embedded_p99": Target(300.0),
}


@contextmanager
def streamed(scene: Stage) -> Iterator[None]:
    """Run `headrace stream` on a scene, and wait for its first heartbeat in the store."""
    import os

    from feature_repo.online import open_store
    from streaming.sessions.heartbeat import read_heartbeats

    command = [sys.executable, "-m", "orchestration.cli", "stream", "--metrics-port", "0"]
    running = subprocess.Popen(
        command, env={**os.environ, **scene.environment}, stdout=subprocess.DEVNULL, cwd=Path.cwd()
    )
    store = open_store(scene.settings, scene.home)
    try:
        deadline = time.monotonic() + 60
        while len(read_heartbeats(store)) < scene.settings.log_partitions:
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        store.close()
        running.terminate()
        running.wait()


def _event(number: int, session: str) -> dict[str, object]:
    return {
        "event_id": f"{session}-{number}",
        "event_type": "click",
        "event_time": datetime.now(UTC).isoformat(),
        "session_id": session,
        "item_id": f"i{number * 7919 % 5000}",
        "user_id": f"u{number % 500}",
    }


def offer(port: int, stop: threading.Event, sent: list[int]) -> None:
    """Post events at the offered rate until stopped, catching up after slow posts."""
    from benchmarks._clients import Client

    client, number, started = Client(port), 0, time.perf_counter()
    while not stop.is_set():
        due = int((time.perf_counter() - started) * EVENTS_PER_S) - number
        if due > 0:
            some = [_event(number + n, f"load{(number + n) * 31 % SESSIONS}") for n in range(min(due, 500))]
            status, answer = client.post("/v1/events", json.dumps(some).encode())
            assert status == 202, answer
            number += len(some)
            sent[0] = number
        stop.wait(POST_EVERY_S)


def probe(client: object, number: int) -> float:
    """Measure the milliseconds from posting one click to a ranking that uses its session's features."""
    from benchmarks._clients import Client

    assert isinstance(client, Client)
    session = f"probe{number}"
    ranked = json.dumps(
        {"session_id": session, "candidates": [{"item_id": f"i{n}"} for n in range(10)]}
    ).encode()
    body = json.dumps({**_event(number, session), "user_id": None}).encode()
    started = time.perf_counter()
    client.post("/v1/events", body)
    while True:
        answer = json.loads(client.post("/v1/rank", ranked)[1])
        elapsed = (time.perf_counter() - started) * 1e3
        if "session_profile" in answer["ages"]:
            return elapsed
        if elapsed > GIVE_UP_S * 1e3:
            msg = f"session {session} not visible after {GIVE_UP_S} s: {answer}"
            raise TimeoutError(msg)
        time.sleep(0.001)


def _round_trip(scene: Stage) -> Iterator[float]:
    """Yield the milliseconds of one raw Redis round trip, or of one read of the SQLite file."""
    if scene.redis is None:
        import sqlite3

        from feature_repo.online import online_path

        connection = sqlite3.connect(online_path(scene.home))
        while True:
            started = time.perf_counter()
            connection.execute("SELECT value FROM headrace_marks LIMIT 1").fetchall()
            yield (time.perf_counter() - started) * 1e3
    import redis

    client = redis.Redis.from_url(scene.redis.url)
    while True:
        started = time.perf_counter()
        client.ping()
        yield (time.perf_counter() - started) * 1e3


def measure(name: str, online_store: str, seconds: float = SECONDS) -> list[Row]:
    """Measure the rows `name` (p50) and `name`_p99, in ms."""
    from benchmarks._clients import Client
    from benchmarks._rig import served, stage

    with stage(online_store) as scene, served(scene) as port, streamed(scene):
        stop, sent, client = threading.Event(), [0], Client(port)
        round_trip = _round_trip(scene)
        for n in range(10):
            probe(client, -1 - n)
        load = threading.Thread(target=offer, args=(port, stop, sent))
        load.start()
        probes, trips, number, started = [], [], 0, time.perf_counter()
        try:
            while (now := time.perf_counter()) - started < seconds:
                probes.append(probe(client, number))
                trips.append(next(round_trip))
                number += 1
                time.sleep(max(0.0, PROBE_EVERY_S - (time.perf_counter() - now)))
            offered = sent[0] / (time.perf_counter() - started)
        finally:
            stop.set()
            load.join()
    baseline = "one raw Redis round trip" if online_store == "redis" else "one read of the SQLite file"
    extra = {"offered_per_s": round(offered), "max_ms": max(probes), "seconds": seconds}
    return latency_rows(name, probes, baseline, trips, extra)


def run() -> list[Row]:
    """Measure on Redis."""
    return measure("freshness", "redis")


def run_embedded() -> list[Row]:
    """Measure on the embedded default: segment files and SQLite."""
    return measure("freshness_embedded", "sqlite")


RUNS = {"freshness": run, "freshness_embedded": run_embedded}
