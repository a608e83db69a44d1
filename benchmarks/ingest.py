"""`event_log`: publishing to and reading the segment log; baseline the same bytes as lines of one plain file.
`ingest`: JSON lines into log and lake; baseline DuckDB copying the same file to Parquet by day.
`simulate`: a shop of a million events into a compressed file; baseline compressing the same bytes.

The baselines have no checksums, positions, partitions, contract, log or deduplication.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.harness import Row, Target, alternate, timed
from feature_repo.settings import Settings
from streaming.ingest.files import ingest
from streaming.log.segment_log import SegmentLog

RECORDS = 200_000
BATCH = 1_000
EVENTS = 200_000
DAYS = 14
SHOP_USERS = 9_300
"""Users of a simulated shop with a million events in thirty days."""
TARGETS = {
    "event_log_publish": Target(200_000, side="at least"),
    "event_log_read": Target(300_000, side="at least"),
    "simulate": Target(60),
}


def run_log() -> list[Row]:
    """Measure records per second in batches of 1,000, with four partitions and an fsync each second."""
    records = [(f"s{n % 5000}", _event(n, random.Random(n))) for n in range(RECORDS)]
    with tempfile.TemporaryDirectory() as folder:
        log, lines = Path(folder) / "log", Path(folder) / "lines"

        def publish() -> None:
            shutil.rmtree(log, ignore_errors=True)
            made = SegmentLog(log, 4)
            for at in range(0, RECORDS, BATCH):
                made.publish(records[at : at + BATCH])
            made.close()

        def write_lines() -> None:
            with lines.open("wb") as file:
                for at in range(0, RECORDS, BATCH):
                    file.write(b"".join(raw + b"\n" for _, raw in records[at : at + BATCH]))
                    file.flush()

        def read() -> None:
            made = SegmentLog(log, 4)
            for partition in range(4):
                position, ended = made.start(partition), False
                while not ended:
                    batch = made.read(partition, position, BATCH)
                    position, ended = batch.position, batch.position == position
            made.close()

        def read_lines() -> None:
            with lines.open("rb") as file:
                for _ in file:
                    pass

        return [
            _rate("event_log_publish", "lines of a plain file", publish, write_lines, RECORDS),
            _rate("event_log_read", "lines of a plain file", read, read_lines, RECORDS),
        ]


def run_ingest() -> list[Row]:
    """Measure events per second into an empty home, and of the same file again."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        path, home, copy = (Path(folder) / name for name in ("events.jsonl", "home", "copy"))
        path.write_bytes(b"".join(_event(n, rng) + b"\n" for n in range(EVENTS)))
        settings = Settings(home=home)

        def first() -> None:
            shutil.rmtree(home, ignore_errors=True)
            ingest([path], "headrace", settings)

        def again() -> None:
            ingest([path], "headrace", settings)

        def plain() -> None:
            shutil.rmtree(copy, ignore_errors=True)
            duckdb.execute(
                f"COPY (SELECT *, event_time::DATE AS day FROM read_json('{path}') ORDER BY event_time) "
                f"TO '{copy}' (FORMAT parquet, PARTITION_BY (day))"
            )

        return [
            _rate("ingest", "DuckDB COPY", first, plain, EVENTS),
            _rate("ingest_again", "DuckDB COPY", again, plain, EVENTS),
        ]


def run_simulate() -> list[Row]:
    """Measure the seconds that `headrace simulate` takes for about a million events."""
    from streaming.simulator import ShopConfig, simulate

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.jsonl.gz"
        config = ShopConfig(users=SHOP_USERS, items=5_000, days=30)
        counts = simulate(config, path)
        with gzip.open(path) as file:
            lines = file.read()

        def pack() -> None:
            with gzip.open(Path(folder) / "again.gz", "wb", compresslevel=1) as file:
                file.write(lines)

        pair = alternate(timed(lambda: simulate(config, path)), timed(pack), rounds=1, warmup=0)
    facts = {"events": counts.events, "mib": round(len(lines) / 2**20)}
    return [Row("simulate", pair.value, "s", "gzip of the same bytes", pair.baseline, pair.samples, facts)]


def _rate(name: str, baseline: str, thing: Callable[[], None], other: Callable[[], None], count: int) -> Row:
    pair = alternate(timed(thing), timed(other), rounds=2)
    return Row(
        name,
        count / pair.value,
        "records/s",
        baseline,
        count / pair.baseline,
        pair.samples,
        {"records": count, "seconds": round(pair.value, 3)},
    )


def _event(number: int, rng: random.Random) -> bytes:
    time = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(seconds=number * DAYS * 86_400 / EVENTS)
    fields = {
        "record": "event",
        "event_id": f"e{number:08d}-{rng.getrandbits(64):016x}",
        "event_type": rng.choice(["view", "click", "like"]),
        "event_time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "user_id": f"u{rng.randrange(20_000)}",
        "session_id": f"s{rng.randrange(100_000)}",
        "item_id": f"i{rng.randrange(5_000)}",
        "properties": {"device": "web"},
    }
    return json.dumps(fields).encode()


RUNS = {"event_log": run_log, "ingest": run_ingest, "simulate": run_simulate}
