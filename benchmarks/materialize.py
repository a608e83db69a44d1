"""Materialization: 1,000,000 rows × 11 features to Redis, against Feast's own `materialize` on the same rows.

`materialize` (rows/s) alternates both on the first 100,000 rows, because Feast holds every row as an object
(3.7 GB at 300,000). `materialize_memory` (MB) is the peak of all Headrace processes on 1,000,000 rows. Its
baseline is the peak on 250,000, so a ratio near 1 shows that memory does not grow with the rows.
`materialize_sqlite` writes 250,000 rows to SQLite, and Feast the first 50,000 of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from pydantic import SecretStr

from benchmarks.harness import Row, Target, alternate
from feature_repo.group import USER, DType, Feature, FeatureGroup
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from feature_repo.settings import Settings

TARGETS = {
    "materialize": Target(5, of="ratio", side="at least"),
    "materialize_memory": Target(600),
}
ROWS, SHARED, QUARTER = 1_000_000, 100_000, 250_000
SQLITE_ROWS, SQLITE_SHARED = 250_000, 50_000
AS_OF = datetime(2024, 5, 31, tzinfo=UTC)
_TYPES = (
    *[DType.FLOAT64] * 4,
    *[DType.INT64] * 4,
    *[DType.STRING] * 2,
    DType.STRINGS,
)
GROUP = FeatureGroup(
    name="bench",
    entity=USER,
    meaning="Eleven features of mixed types.",
    features=tuple(Feature(f"f{n}", dtype, "x") for n, dtype in enumerate(_TYPES)),
    freshness=timedelta(days=1),
    ttl=timedelta(days=3650),
)


def run() -> list[Row]:
    """Measure rows/s against Feast, and peak memory at 1,000,000 rows against 250,000."""
    with TemporaryDirectory() as folder, _redis(Path(folder)) as url:
        home = Home(Path(folder) / "home").ensure()
        settings = Settings(
            home=home.root, online_store="redis", redis_url=SecretStr(url), store_timeout_s=60
        )
        shared = write(home, SHARED, AS_OF)
        feast = _feast(settings, home)
        pair = alternate(
            lambda: SHARED / _ours(shared, settings, home, url),
            lambda: SHARED / _of_empty(url, feast),
            rounds=2,
            warmup=0,
        )
        quarter = _memory(write(home, QUARTER, AS_OF + timedelta(days=1)), settings, home, url)
        whole_build = write(home, ROWS, AS_OF + timedelta(days=2))
        whole = _memory(whole_build, settings, home, url)
    return [
        Row(
            "materialize",
            ROWS / whole[0],
            "rows/s",
            f"Feast materialize, {SHARED:,} of the rows",
            pair.baseline,
            pair.samples,
            {"rows": ROWS, "features": len(_TYPES), "shared_rows_per_s": pair.value},
        ),
        Row(
            "materialize_memory",
            whole[1],
            "MB",
            f"the same at {QUARTER:,} rows",
            quarter[1],
            1,
            {"rows": ROWS, "processes": 1 + (os.cpu_count() or 1)},
        ),
    ]


def run_sqlite() -> list[Row]:
    """Measure rows/s into a SQLite file, and Feast's into another."""
    with TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home").ensure()
        settings = Settings(home=home.root, online_store="sqlite", store_timeout_s=60)
        shared = write(home, SQLITE_SHARED, AS_OF)
        feast = _feast(settings, home)
        path = home.feast / "online.db"
        ours = _fresh(path, lambda: _written(shared, settings, home))
        pair = alternate(
            lambda: SQLITE_SHARED / ours(),
            lambda: SQLITE_SHARED / _fresh(path, feast)(),
            rounds=2,
            warmup=0,
        )
        whole_build = write(home, SQLITE_ROWS, AS_OF + timedelta(days=1))
        whole = SQLITE_ROWS / _fresh(path, lambda: _written(whole_build, settings, home))()
    facts = {"rows": SQLITE_ROWS, "features": len(_TYPES), "shared_rows_per_s": pair.value}
    baseline = f"Feast materialize on SQLite, {SQLITE_SHARED:,} of the rows"
    return [Row("materialize_sqlite", whole, "rows/s", baseline, pair.baseline, pair.samples, facts)]


def write(home: Home, count: int, as_of: datetime) -> Build:
    """Write a build of `count` rows in pieces, as `build_group` does."""
    import numpy as np
    import pyarrow as pa

    from orchestration.builds.build import write_aside
    from orchestration.builds.build_query import ROWS_PER_PIECE

    random = np.random.default_rng(0)

    def batches() -> Iterator[Any]:
        for start in range(0, count, ROWS_PER_PIECE):
            size = min(ROWS_PER_PIECE, count - start)
            ids = range(start, start + size)
            columns: list[Any] = [pa.array([f"user-{n}" for n in ids])]
            columns += [pa.array(random.random(size)) for _ in range(4)]
            columns += [pa.array(random.integers(0, 100_000, size)) for _ in range(4)]
            columns += [
                pa.array([f"segment-{n % 50}" for n in ids]),
                pa.array([f"item-{n % 9973}" for n in ids]),
            ]
            columns += [pa.array([[f"category:{n % 30}", f"tag:{n % 7}", f"tag:{n % 11}"] for n in ids])]
            stamp = pa.repeat(pa.scalar(as_of, GROUP.arrow_schema.field("event_timestamp").type), size)
            yield pa.RecordBatch.from_arrays([*columns, stamp, stamp], schema=GROUP.arrow_schema)

    path = Builds(home.features).path(GROUP.name, as_of)
    write_aside(path, GROUP.arrow_schema, batches())
    return Build(path, as_of, as_of, count)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    from benchmarks._rig import Redis

    server = Redis(folder)
    try:
        yield server.url
    finally:
        server.process.kill()
        server.process.wait()


def _flush(url: str) -> None:
    import redis

    client = redis.Redis.from_url(url)
    client.flushall()
    client.close()


def _of_empty(url: str, materialize: Callable[[], float]) -> float:
    _flush(url)
    return materialize()


def _fresh(path: Path, materialize: Callable[[], float]) -> Callable[[], float]:
    """Measure into an empty SQLite store."""

    def measure() -> float:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return materialize()

    return measure


def _written(build: Build, settings: Settings, home: Home) -> float:
    """Measure the seconds of Headrace's materialization of a build."""
    from orchestration.materialize.materialize import materialize_current

    started = time.perf_counter()
    written = materialize_current(GROUP, build, settings, home)
    seconds = time.perf_counter() - started
    assert written == build.rows
    return seconds


def _ours(build: Build, settings: Settings, home: Home, url: str) -> float:
    _flush(url)
    return _written(build, settings, home)


def _feast(settings: Settings, home: Home) -> Callable[[], float]:
    from feature_repo.feast_store import feature_store
    from feature_repo.views import feast_objects, quiet_globs

    quiet_globs()

    def materialize() -> float:
        store = feature_store(
            settings, home
        )  # a new store: the old one would keep the removed SQLite file open
        store.apply(feast_objects([GROUP], home).all)
        started = time.perf_counter()
        store.materialize(AS_OF - timedelta(hours=1), AS_OF + timedelta(hours=1), [GROUP.view_name])
        return time.perf_counter() - started

    return materialize


def _memory(build: Build, settings: Settings, home: Home, url: str) -> Sequence[float]:
    """Measure seconds and peak megabytes of a process that materializes the build, including workers."""
    import multiprocessing

    _flush(url)
    context = multiprocessing.get_context("spawn")
    seconds = context.Value("d", 0.0)
    child = context.Process(target=_measured, args=(build, settings, home, url, seconds))
    child.start()
    with _peak(child.pid or 0) as peak:
        child.join()
    assert child.exitcode == 0
    return seconds.value, peak[0] / 1e6


def _measured(build: Build, settings: Settings, home: Home, url: str, seconds: Any) -> None:
    seconds.value = _ours(build, settings, home, url)


@contextmanager
def _peak(pid: int) -> Iterator[list[float]]:
    """Track the peak sum of proportional set sizes of a process and its children; shared pages count once."""
    found = [0.0]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.2):
            try:
                tree = [parent := psutil.Process(pid), *parent.children(recursive=True)]
                found[0] = max(found[0], sum(p.memory_full_info().pss for p in tree))
            except psutil.Error:
                continue

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


RUNS = {"materialize": run, "materialize_sqlite": run_sqlite}
