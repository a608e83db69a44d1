"""`batch_build`: the batch groups over a million simulated events; HEADRACE_BENCH_LONG=1 adds 10 and 30.

Baseline: hand-written DuckDB SQL for the same results on the same files (`_batch_sql`). Both write what they
find to Parquet. Each size runs in a process of its own, whose peak memory is reported: it is bounded by
DuckDB's memory limit plus what Python and the libraries hold.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks._batch_sql import statements
from benchmarks.harness import Row, Target, alternate, timed
from feature_repo.group import BatchParams, LakeTables
from feature_repo.groups import batch_groups
from feature_repo.lake import Lake, duckdb_backend, read_tables
from feature_repo.settings import Settings

MEMORY, THREADS, HISTORY = "2GB", 2, timedelta(days=365)
USERS_PER_MILLION, DAYS = 9_000, 30
SIZES = {"batch_build": 1, "batch_build_10m": 10, "batch_build_30m": 30}
TARGETS = {name: Target(1.5, "ratio") for name in SIZES}


def make_lake(root: Path, millions: float) -> tuple[Lake, BatchParams, int]:
    """A simulated shop of about so many events in thirty days."""
    from streaming.simulator import ShopConfig, simulate_lake  # noqa: PLC0415

    config = ShopConfig(
        users=int(USERS_PER_MILLION * millions), items=5_000, days=DAYS, duplicates=0, late=0, malformed=0
    )
    lake = Lake(root)
    counts = simulate_lake(config, lake)
    return lake, BatchParams.of(Settings(), config.end), counts.events


def by_expressions(lake: Lake, params: BatchParams, out: Path) -> None:
    """The groups as they are built in production: Ibis on DuckDB."""
    with duckdb_backend(MEMORY, THREADS, out / "spill") as con:
        inputs = read_tables(con, lake, params.as_of, HISTORY)
        for name, group in batch_groups().items():
            assert group.batch is not None
            built = {other: con.read_parquet(str(out / f"{other}.parquet")) for other in group.depends_on}
            tables = LakeTables(inputs.events, inputs.items, inputs.users, built)
            con.to_parquet(group.batch(tables, params), str(out / f"{name}.parquet"), compression="zstd")


def by_hand(lake: Lake, params: BatchParams, out: Path) -> None:
    """The same in SQL."""
    files, (items,), (users,) = lake.files("event"), lake.files("item"), lake.files("user")
    with duckdb_backend(MEMORY, THREADS, out / "spill") as con:
        for name, sql in statements(files, items, users, params).items():
            if name == "segment_profile":
                con.raw_sql(
                    "CREATE OR REPLACE TEMP TABLE segments AS SELECT user_id, segment "
                    f"FROM '{out}/user_profile.parquet' WHERE segment != 'all'"
                )
            for statement in sql[:-1]:
                con.raw_sql(statement)
            con.raw_sql(f"COPY ({sql[-1]}) TO '{out}/hand_{name}.parquet' (FORMAT PARQUET, COMPRESSION ZSTD)")


def _measured(millions: float, rounds: int, answers: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        lake, params, events = make_lake(out / "lake", millions)
        by_expressions(lake, params, out)  # the hand-written segments read its users
        pair = alternate(
            timed(lambda: by_expressions(lake, params, out)),
            timed(lambda: by_hand(lake, params, out)),
            rounds=rounds,
            warmup=0,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers.put((pair, events, peak))


def measure(name: str, millions: float, rounds: int) -> list[Row]:
    """One size, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_measured, args=(millions, rounds, answers))
    process.start()
    process.join()
    if process.exitcode:
        msg = f"{name} ended with {process.exitcode}"
        raise RuntimeError(msg)
    pair, events, peak = answers.get()
    facts = {"events": events, "peak_mib": round(peak), "memory_limit": MEMORY}
    return [Row(name, pair.value, "s", "hand-written DuckDB SQL", pair.baseline, pair.samples, facts)]


def run() -> Sequence[Row]:
    """A million events."""
    return measure("batch_build", 1, 2)


def run_10m() -> Sequence[Row]:
    """Ten million."""
    return measure("batch_build_10m", 10, 1)


def run_30m() -> Sequence[Row]:
    """Thirty million."""
    return measure("batch_build_30m", 30, 1)


RUNS = {"batch_build": run}
if os.environ.get("HEADRACE_BENCH_LONG"):
    RUNS |= {"batch_build_10m": run_10m, "batch_build_30m": run_30m}
