"""Time from kill -9 to caught up, with a million sessions of state, while events keep arriving.

The baseline is reading only the state files, which any restart has to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target

if TYPE_CHECKING:
    from feature_repo.settings import Settings

SESSIONS, EVENTS_PER_S, RUN_S, GIVE_UP_S = 1_000_000, 2000, 8.0, 300.0
TARGETS = {"stream_restart": Target(10.0)}


def _start(settings: Settings) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "HEADRACE_HOME": str(settings.home),
        "HEADRACE_ONLINE_STORE": "redis",
        "HEADRACE_REDIS_URL": settings.redis_url.get_secret_value(),
        "HEADRACE_LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "orchestration.cli", "stream", "--metrics-port", "0"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=Path.cwd())


def _caught_up(settings: Settings, since: datetime) -> bool:
    """Whether every partition was read to its end by a process whose heartbeat is newer than `since`."""
    from feature_repo.home import Home
    from feature_repo.online import open_store
    from streaming.sessions.heartbeat import read_heartbeats

    store = open_store(settings, Home(settings.home))
    try:
        found = read_heartbeats(store)
    finally:
        store.close()
    return len(found) == settings.log_partitions and all(
        h.wall_time > since and h.behind_s < 0.1 and h.counts.read > 0 for h in found
    )


def _wait(condition: Callable[[], bool]) -> float:
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > GIVE_UP_S:
            msg = f"not caught up after {GIVE_UP_S:.0f} s"
            raise TimeoutError(msg)
        time.sleep(0.02)
    return time.perf_counter() - started


def _offer(settings: Settings, stop: threading.Event) -> None:
    from benchmarks.stream_write import events
    from feature_repo.contract.validation import encode
    from feature_repo.home import Home
    from streaming.log import open_log

    log, seed = open_log(settings, Home(settings.home)), 100
    while not stop.is_set():
        started = time.perf_counter()
        log.publish([(e.session_id, encode(e)) for e in events(EVENTS_PER_S // 10, SESSIONS, seed)])
        seed += 1
        stop.wait(max(0.0, 0.1 - (time.perf_counter() - started)))
    log.close()


def _load_state(settings: Settings) -> float:
    from feature_repo.home import Home
    from streaming.sessions.state_files import StateFolder

    started = time.perf_counter()
    for path in sorted((Home(settings.home).stream / "state").glob("sessions-*")):
        file = StateFolder(path)
        file.load()
        file.close()
    return time.perf_counter() - started


def run() -> list[Row]:
    """Measure one kill."""
    from benchmarks._sessions import fill_state
    from benchmarks.stream_write import bench, events, fill
    from feature_repo.clock import wall_clock

    with bench() as b:
        fill(b.settings, events(1000, SESSIONS))
        state = fill_state(b.settings, SESSIONS)
        stop = threading.Event()
        load = threading.Thread(target=_offer, args=(b.settings, stop))
        process = _start(b.settings)
        try:
            begun = wall_clock()
            load.start()
            _wait(lambda: _caught_up(b.settings, begun))
            time.sleep(RUN_S)
            killed = wall_clock()
            process.kill()
            process.wait()
            process = _start(b.settings)
            seconds = _wait(lambda: _caught_up(b.settings, killed))
        finally:
            stop.set()
            load.join()
            process.terminate()
            process.wait()
        alone = _load_state(b.settings)
    extra = {"sessions": SESSIONS, "state_mib": round(state / 2**20), "offered_per_s": EVENTS_PER_S}
    return [Row("stream_restart", seconds, "s", "reading the state files alone", alone, 1, extra)]
