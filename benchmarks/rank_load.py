"""`POST /v1/rank` under load: many clients, two workers, a running stream, Redis paused.

`rank_under_write`: a process publishes 5,000 events/s to the event log, and `headrace stream` folds them and
writes their sessions, including the ranked ones, to the same Redis. With Redis and the client these are five
processes. On two cores they wait for each other, which is what the row measures.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target, latency_rows, percentile

if TYPE_CHECKING:
    from benchmarks._rig import Stage

SECONDS = 5.0
CLIENTS = 8
EVENTS_PER_S = 5000
STREAM_START_S = 60.0
TARGETS = {
    "rank_throughput_p99": Target(30.0),
    "rank_under_write_p99": Target(15.0),
    "rank_faulty_p99": Target(40.0),
    "rank_faulty_not_200": Target(0.0),
    "rank_faulty_open_p99": Target(5.0),
}


def _client(port: int, path: str, sent: Sequence[bytes], seconds: float) -> list[float]:
    from benchmarks._clients import Client, milliseconds

    timings = milliseconds(Client(port), path, sent)
    ended = time.perf_counter() + seconds
    found = []
    while time.perf_counter() < ended:
        found.append(next(timings))
    return found


def _load(port: int, path: str, sent: Sequence[bytes], clients: int = CLIENTS) -> tuple[float, float]:
    """Measure requests/s and p99 (ms) of clients in closed loops, each in a thread of this process."""
    with ThreadPoolExecutor(clients) as pool:
        asked = [pool.submit(_client, port, path, sent, SECONDS) for _ in range(clients)]
        found = [ms for one in asked for ms in one.result()]
    return len(found) / SECONDS, percentile(found, 0.99)


def throughput() -> list[Row]:
    """Measure requests/s and p99 at 100 candidates with one and two workers, beside the echo."""
    from benchmarks._rig import bodies, echo, served, stage

    sent = bodies(100)
    rows = []
    with stage("redis") as scene, echo() as echo_port:
        for workers in (1, 2):
            with served(scene, "--workers", str(workers)) as port:
                _client(port, "/v1/rank", sent, 1.0)
                rate, p99 = _load(port, "/v1/rank", sent)
                dropped = _decisions_dropped(port)
                echoed, echo_p99 = _load(echo_port, "/", sent)
            name = "rank_throughput" + ("" if workers == 1 else f"_{workers}_workers")
            baseline = "bare ASGI echo of the same bodies, one process"
            count = int(rate * SECONDS)
            extra = {"clients": CLIENTS, "decisions_dropped": dropped}
            rows.append(Row(name, rate, "requests/s", baseline, echoed, count, extra))
            rows.append(Row(f"{name}_p99", p99, "ms", f"{baseline}, p99", echo_p99, count))
    return rows


def _decisions_dropped(port: int) -> int:
    """Return the number of dropped decision records of all workers."""
    from benchmarks._clients import Client

    text = Client(port).get("/metrics")[1].decode()
    return round(
        sum(map(float, re.findall(r"^headrace_decisions_dropped_total\S* (\S+)$", text, re.MULTILINE)))
    )


@contextmanager
def _publishing(scene: Stage) -> Iterator[None]:
    """Publish events at the offered rate from another process; yield after one second."""
    command = [sys.executable, "-m", "benchmarks._writer", str(EVENTS_PER_S)]
    writer = subprocess.Popen(command, env={**os.environ, **scene.environment})
    try:
        started = time.monotonic()
        while _folded(scene) == 0 or time.monotonic() - started < 1.0:
            assert writer.poll() is None
            assert time.monotonic() - started < STREAM_START_S
            time.sleep(0.05)
        yield
    finally:
        writer.terminate()
        writer.wait()


def _folded(scene: Stage) -> int:
    """Return the number of events that the stream has folded, from its heartbeats."""
    from feature_repo.online import open_store
    from streaming.sessions.heartbeat import read_heartbeats

    store = open_store(scene.settings, scene.home)
    try:
        return sum(beat.counts.folded for beat in read_heartbeats(store))
    finally:
        store.close()


def under_write() -> list[Row]:
    """Measure latency while 5,000 events/s are folded into the same Redis, and without them."""
    from benchmarks._rig import bodies, served, stage
    from benchmarks.freshness import streamed

    sent = bodies(100)
    with stage("redis") as scene, served(scene) as port:
        _client(port, "/v1/rank", sent, 1.0)
        quiet = _client(port, "/v1/rank", sent, SECONDS)
        with streamed(scene), _publishing(scene):
            before, started = _folded(scene), time.perf_counter()
            busy = _client(port, "/v1/rank", sent, 2 * SECONDS)
            folded = (_folded(scene) - before) / (time.perf_counter() - started)
    baseline = "the same without events"
    extra = {"offered_per_s": EVENTS_PER_S, "folded_per_s": round(folded), "max_ms": max(busy)}
    return latency_rows("rank_under_write", busy, baseline, quiet, extra)


def _answers(port: int, sent: Sequence[bytes], seconds: float) -> list[tuple[float, int]]:
    """Return milliseconds and status of sequential rankings by one client, whatever the status."""
    from benchmarks._clients import Client

    client, found = Client(port), list[tuple[float, int]]()
    ended = time.perf_counter() + seconds
    while (started := time.perf_counter()) < ended:
        status, _ = client.post("/v1/rank", sent[len(found) % len(sent)])
        found.append(((time.perf_counter() - started) * 1e3, status))
    return found


def faulty() -> list[Row]:
    """Pause Redis: measure latency from the first request and with the breaker open, and count non-200s."""
    from benchmarks._rig import bodies, served, stage

    sent = bodies(100)
    with stage("redis") as scene, served(scene) as port:
        assert scene.redis is not None
        healthy = _client(port, "/v1/rank", sent, SECONDS / 2)
        scene.redis.process.send_signal(signal.SIGSTOP)
        resume = threading.Timer(SECONDS, scene.redis.process.send_signal, (signal.SIGCONT,))
        resume.start()
        try:
            answers = _answers(port, sent, SECONDS - 1.0)
        finally:
            resume.join()
    paused = [ms for ms, _ in answers]
    opened = paused[50:]
    baseline = "the same with Redis well"
    refused = sum(status != HTTPStatus.OK for _, status in answers)
    extra = {"answers": len(paused), "max_ms": max(paused)}
    tail = percentile(healthy, 0.99)
    return [
        *latency_rows("rank_faulty", paused, baseline, healthy, extra),
        Row("rank_faulty_not_200", refused, "answers", "answers", len(paused), len(paused)),
        Row("rank_faulty_first", max(paused[:50]), "ms", f"{baseline}, p99", tail, 50),
        Row("rank_faulty_open_p99", percentile(opened, 0.99), "ms", f"{baseline}, p99", tail, len(opened)),
    ]


RUNS = {"rank_throughput": throughput, "rank_under_write": under_write, "rank_faulty": faulty}
