"""`validate`: a lake day of a million events through the event suite; baseline one hand-written aggregate.

The baseline counts the same conditions, including distinct strings, in plain DuckDB SQL on the same file,
without expectations, verdicts or pages. Neither side includes the import of Great Expectations, which takes
seconds once per process. Memory is the growth during the check, in a separate process per size.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.harness import Row, Target, alternate, timed

EVENTS = 1_000_000
DAY = date(2024, 6, 1)
ROUNDS = 5
TARGETS = {"validate": Target(2.0), "validate_10m": Target(20.0)}

_DATA = """
COPY (SELECT
    'event-' || i || '-' || hash(i) AS event_id,
    CASE WHEN i % 10 = 0 THEN 'impression' WHEN i % 10 = 1 THEN 'search'
         WHEN i % 10 < 7 THEN 'view' ELSE 'click' END AS event_type,
    TIMESTAMPTZ '2024-06-01 00:00:00+00' + to_microseconds(i * 86400000000 // {n}) AS event_time,
    's' || (i // 20) AS session_id,
    'u' || (i // 100) AS user_id,
    CASE WHEN i % 10 >= 2 THEN 'item' || (hash(i) % 5000) END AS item_id,
    CASE WHEN i % 10 = 0
        THEN list_transform(range(10), lambda x: {{'item_id': 'item' || ((hash(i) + x::UBIGINT) % 5000),
                                                   'score': 0.5::DOUBLE}})
        ELSE [] END AS items,
    NULL::VARCHAR AS request_id,
    (i % 24)::BIGINT AS position,
    CASE WHEN i % 10 = 1 THEN 'red shoes' END AS query,
    true AS consent,
    MAP {{'device': 'phone'}} AS properties,
    1::BIGINT AS schema_version,
    TIMESTAMPTZ '2024-06-02 00:00:00+00' AS ingested_at
FROM range({n}) t(i)) TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""

_BASELINE = """
SELECT
    count(*),
    count(*) FILTER (event_id IS NULL), count(*) FILTER (strlen(event_id) < 1 OR strlen(event_id) > 256),
    count(DISTINCT event_id),
    count(*) FILTER (event_type IS NULL),
    count(*) FILTER (event_type NOT IN
        ('add_to_cart', 'click', 'impression', 'like', 'purchase', 'search', 'view')),
    count(*) FILTER (event_time IS NULL),
    count(*) FILTER (event_time < TIMESTAMPTZ '2024-06-01 00:00:00+00'
        OR event_time >= TIMESTAMPTZ '2024-06-02 00:00:00+00'),
    count(*) FILTER (session_id IS NULL),
    count(*) FILTER (strlen(session_id) < 1 OR strlen(session_id) > 256),
    count(*) FILTER (user_id IS NULL), count(*) FILTER (strlen(user_id) < 1 OR strlen(user_id) > 256),
    count(*) FILTER (item_id IS NULL AND event_type NOT IN ('impression', 'search')),
    count(*) FILTER (strlen(item_id) < 1 OR strlen(item_id) > 256),
    count(*) FILTER (strlen(request_id) < 1 OR strlen(request_id) > 256),
    count(*) FILTER (len(items) < 1 AND event_type = 'impression'),
    count(*) FILTER (position < 0 OR position > 1000000),
    count(*) FILTER (query IS NULL AND event_type = 'search'), count(*) FILTER (strlen(query) > 4096),
    count(*) FILTER (schema_version < 1 OR schema_version > 1),
    count(*) FILTER (ingested_at IS NULL)
FROM read_parquet('{path}')
"""


def _connect() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return con


def _write(path: Path, events: int) -> None:
    _connect().execute(_DATA.format(n=events, path=path))


def _plain(path: Path) -> None:
    _connect().execute(_BASELINE.format(path=path)).fetchall()


def _check(path: Path) -> None:
    from feature_repo.settings import Settings
    from quality.checks.report import check_events

    settings: Settings = Settings.model_construct()
    report = check_events([str(path)], settings=settings, day=DAY)
    if report.failures:
        msg = f"the generated day breaks its contract: {report.failures[0].message}"
        raise AssertionError(msg)


def _growth(path: str, answer: Any) -> None:
    """Measure the peak growth of this process's memory during the check, in MiB."""
    import psutil

    import quality.checks.expectations  # noqa: F401 - exclude its import from the memory of the check

    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _check(Path(path))
    done.set()
    watcher.join()
    answer.put((peak - before) / 2**20)


def _memory_mib(path: Path) -> float:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_growth, args=(str(path), answer))
    process.start()
    grown = float(answer.get(timeout=300))
    process.join()
    return round(grown, 1)


def run() -> list[Row]:
    """Measure seconds and memory for one and for ten million events."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        for name, events, rounds in (("validate", EVENTS, ROUNDS), ("validate_10m", 10 * EVENTS, 2)):
            path = Path(folder) / f"{name}.parquet"
            _write(path, events)
            pair = alternate(timed(lambda p=path: _check(p)), timed(lambda p=path: _plain(p)), rounds)  # type: ignore[misc]
            extra = {"events": events, "memory_growth_mib": _memory_mib(path), "seconds": pair.values}
            rows.append(
                Row(name, pair.value, "s", "hand-written DuckDB SQL", pair.baseline, pair.samples, extra)
            )
            path.unlink()
    return rows
