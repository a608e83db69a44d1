"""Log → fold → Feast's Redis layout with one worker, beside raw pipelined HSET of the same bytes.

Events are spread evenly over 100,000 sessions. The whole flow runs: deduplication, lateness, snapshots,
recovery, heartbeats. The log is full before the start, so chunks grow, and events of one session in the same
chunk share a row; see `rows_per_event`. `stream_write_of_raw` is the same figure, with a target on the ratio.
`stream_write_users` has a user in every event, so that `user_recent` is written as well.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Row, Target

if TYPE_CHECKING:
    from benchmarks._rig import Redis
    from feature_repo.contract.validation import Event
    from feature_repo.settings import Settings

EVENTS, SESSIONS, ROUNDS = 300_000, 100_000, 3
ITEMS = 1000
BASELINE_ROWS = 50_000
PIPELINE = 1000
TARGETS = {
    "stream_write": Target(40_000, side="at least"),
    "stream_write_of_raw": Target(0.25, "ratio", "at least"),
}


@dataclass(frozen=True)
class Bench:
    """A home and a Redis for the benchmark."""

    settings: Settings
    redis: Redis


@contextmanager
def bench(**changes: Any) -> Iterator[Bench]:
    """Create an empty home that streams into an empty Redis."""
    from pydantic import SecretStr

    from benchmarks._rig import Redis
    from feature_repo.settings import Settings

    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    redis = Redis(folder)
    settings = Settings(
        home=folder / "home",
        online_store="redis",
        redis_url=SecretStr(redis.url),
        stream_metrics_port=0,
        **changes,
    )
    try:
        yield Bench(settings, redis)
    finally:
        redis.process.kill()
        redis.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def events(
    count: int, sessions: int, seed: int = 1, users: bool = False, touched: int | None = None
) -> Iterator[Event]:
    """Make events of the last seconds in time order, spread evenly over the sessions or `touched` of them."""
    from feature_repo.contract.validation import Event

    rng = random.Random(seed)
    start = datetime.now(UTC) - timedelta(microseconds=25 * count)
    kinds = ("view", "click", "view", "add_to_cart")
    apart = sessions // (touched or sessions)
    for n in range(count):
        number = rng.randrange(touched or sessions) * apart
        yield Event(
            event_id=f"{rng.getrandbits(64):016x}",
            event_type=kinds[n % 4],
            event_time=start + timedelta(microseconds=25 * n),
            session_id=f"session-{number:07d}",
            item_id=f"i{rng.randrange(ITEMS)}",
            user_id=f"user-{number % (sessions // 2):07d}" if users else None,
        )


def fill(settings: Settings, made: Iterator[Event]) -> None:
    """Write a catalogue and events to the log."""
    from feature_repo.contract.validation import Item, encode
    from feature_repo.home import Home
    from streaming.log import open_log

    log = open_log(settings, Home(settings.home).ensure())
    items = [
        Item(
            item_id=f"i{n}",
            categories=(f"category {n % 20}",),
            price=3.0 + n % 50,
            attributes={"brand": f"brand {n % 30}", "colour": ("red", "blue", "green")[n % 3]},
        )
        for n in range(ITEMS)
    ]
    log.publish([(item.item_id, encode(item)) for item in items])
    batch: list[tuple[str, bytes]] = []
    for event in made:
        batch.append((event.session_id, encode(event)))
        if len(batch) == 5000:
            log.publish(batch)
            batch = []
    log.publish(batch)
    log.close()


def stream(settings: Settings) -> tuple[float, int]:
    """Measure the seconds from the flow's first read to its last snapshot at the end of the log, and rows."""
    from bytewax.recovery import RecoveryConfig
    from bytewax.testing import run_main

    from feature_repo.home import Home
    from streaming.dataflow.opening import open_stream
    from streaming.dataflow.recovery_files import prepare_recovery
    from streaming.dataflow.worker import quiet_collector

    folder = prepare_recovery(Home(settings.home).ensure().stream)
    opened = open_stream(settings, to_end=True)
    quiet_collector()
    started = time.perf_counter()
    run_main(
        opened.flow,
        epoch_interval=timedelta(seconds=settings.snapshot_s),
        recovery_config=RecoveryConfig(folder),
    )
    seconds = time.perf_counter() - started
    rows = sum(opened.written.values())
    opened.close()
    return seconds, rows


def raw_hset(redis: Redis, count: int = BASELINE_ROWS) -> float:
    """Measure rows per second of redis-py's pipelined HSET of the same rows."""
    import redis as client_module

    client = client_module.Redis.from_url(redis.url)
    keys = [key for key in client.scan_iter(b"*", count=5000) if b"session_id" in key][:count]
    rows: list[tuple[bytes, dict[bytes, bytes]]] = []
    for part in _parts(keys):
        pipe: Any = client.pipeline(transaction=False)
        for key in part:
            pipe.execute_command("HGETALL", key)
        rows += zip(part, pipe.execute(), strict=True)
    started = time.perf_counter()
    for start in range(0, len(rows), PIPELINE):
        pipe = client.pipeline(transaction=False)
        for key, fields in rows[start : start + PIPELINE]:
            pipe.hset(key, mapping=fields)
        pipe.execute()
    return len(rows) / (time.perf_counter() - started)


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), PIPELINE):
        yield keys[start : start + PIPELINE]


def measure(name: str, users: bool) -> Row:
    """Measure events per second and raw HSET per second in turn."""
    rates, raw, rows = [], [], 0
    for n in range(ROUNDS):
        with bench() as b:
            fill(b.settings, events(EVENTS, SESSIONS, seed=n, users=users))
            seconds, rows = stream(b.settings)
            rates.append(EVENTS / seconds)
            raw.append(raw_hset(b.redis))
    extra = {
        "events": EVENTS,
        "sessions": SESSIONS,
        "rows_per_event": round(rows / EVENTS, 3),
        "rates": [round(r) for r in rates],
        "raw": [round(r) for r in raw],
    }
    return Row(name, median(rates), "events/s", "raw pipelined HSET/s", median(raw), ROUNDS, extra)


def run() -> list[Row]:
    """Measure without and with users."""
    sessions = measure("stream_write", users=False)
    return [
        sessions,
        replace(sessions, name="stream_write_of_raw"),
        measure("stream_write_users", users=True),
    ]
