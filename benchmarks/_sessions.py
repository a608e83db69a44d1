"""Creates the state of many live sessions without streaming, by copying real sessions under many ids."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main
from msgspec.structs import replace

from benchmarks.stream_write import events
from feature_repo.groups.session_profile import touch_of
from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.settings import Settings
from streaming.dataflow.log_source import part_name
from streaming.dataflow.opening import open_stream
from streaming.dataflow.recovery_files import prepare_recovery
from streaming.dataflow.worker import quiet_collector
from streaming.log import open_log, partition_of
from streaming.sessions.session_fold import FoldRules, Session
from streaming.sessions.state_files import StateFolder

KINDS, EVENTS_EACH = 200, 8
AGE_US = 300_000_000


def held_sessions() -> list[bytes]:
    """Make sessions of eight events each as a shard holds them, older than the events of a new log."""
    settings = Settings()
    rules = FoldRules.of(settings)
    made = {n: Session(None, rules, {}) for n in range(KINDS)}
    for n, event in enumerate(events(KINDS * EVENTS_EACH, 1000)):
        touch = touch_of(event, settings.weights, None)
        made[n % KINDS].fold(replace(touch, time_us=touch.time_us - AGE_US))
    return [session.encode() for session in made.values()]


def fill_state(settings: Settings, count: int) -> int:
    """Write `count` live sessions, named as in `stream_write.events`, to the shards' files; return bytes."""
    home = Home(settings.home).ensure()
    # A log creates its partitions with the first record; positions are those of an empty log.
    log = open_log(settings, home)
    kinds, total = held_sessions(), 0
    for partition, keys in _by_partition(count, log.partitions):
        file = StateFolder(Path(home.stream) / "state" / f"sessions-{part_name(partition)}")
        held = {key: kinds[n % KINDS] for n, key in enumerate(keys)}
        total += sum(map(len, held.values()))
        file.save(held, held.keys(), {"position": log.start(partition).encode()})
        file.close()
    _claim_store(settings, home, log.partitions)
    log.close()
    return total


def _claim_store(settings: Settings, home: Home, partitions: int) -> None:
    """Mark the sessions as stored; otherwise the stream would first write a million rows again."""
    store = open_store(settings, home)
    store.put_marks({f"canary/sessions/{n}": b"1" for n in range(partitions)})
    store.close()


def _by_partition(count: int, partitions: int) -> Iterator[tuple[int, list[str]]]:
    keys: list[list[str]] = [[] for _ in range(partitions)]
    for n in range(count):
        key = f"session-{n:07d}"
        keys[partition_of(key, partitions)].append(key)
    yield from enumerate(keys)


def rate_once_loaded(settings: Settings, count: int) -> float:
    """Return the events per second over the last nine tenths of the log, including the last snapshot.

    The time to read the state at start is excluded.
    """
    opened = open_stream(settings, to_end=True)
    folder = prepare_recovery(Home(settings.home).stream)
    quiet_collector()
    progress: list[tuple[float, int]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            progress.append((time.perf_counter(), sum(opened.written.values())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    run_main(
        opened.flow,
        epoch_interval=timedelta(seconds=settings.snapshot_s),
        recovery_config=RecoveryConfig(folder),
    )
    ended = time.perf_counter()
    done.set()
    watcher.join()
    final = sum(opened.written.values())
    opened.close()
    begun = next(at for at, rows in progress if rows >= final / 10)
    return 0.9 * count / (ended - begun)
