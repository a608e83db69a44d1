"""`point_in_time`: 500,000 entity rows on 1,000,000 feature rows × 3 views, through Feast's client.

Baselines: a hand-written chain of DuckDB ASOF JOINs on the same files (without time-to-live and without a
tie-break between equal event times), and Feast's own DuckDB store. `point_in_time_10m`, ten times as large
and streamed, runs with HEADRACE_BENCH_LONG=1. Peak memory is that of a separate process, including Python,
Feast and pandas.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from benchmarks._apart import apart
from benchmarks.harness import Row, Target, alternate, timed

ENTITIES, ROWS, VIEWS, FEATURES = 500_000, 1_000_000, 3, 5
HISTORY = 100
"""Feature rows per user: one daily build over a hundred days."""
TTL = timedelta(days=90)
THREADS = 2
MEMORY = "512MB"
MEMORY_10M = "2GB"
OURS = "feature_repo.offline.offline_store.HeadraceOfflineStore"
TARGETS = {
    "point_in_time": Target(2.5, "ratio"),
    "point_in_time_memory": Target(1024),
    "point_in_time_vs_feast": Target(0.05, "ratio"),
    "point_in_time_10m_memory": Target(4096),
}
REFS = [f"view{v}:f{v}_{k}" for v in range(VIEWS) for k in range(FEATURES)]

_USER = "'user-' || (hash({seed}) % {users})::VARCHAR"
_TIME = "TIMESTAMPTZ '2024-01-01 00:00:00+00' + to_microseconds((hash({seed}) % 8640000000000)::BIGINT)"


def write_data(folder: Path, entities: int, rows: int) -> None:
    """Write feature files and an entity file, with a hundred feature rows per user in a hundred days."""
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for view in range(VIEWS):
            user = _USER.format(seed=f"i * 7 + {view}", users=rows // HISTORY)
            time = _TIME.format(seed=f"i * 13 + {view}")
            features = ", ".join(f"random() AS f{view}_{k}" for k in range(FEATURES))
            connection.execute(
                f"COPY (SELECT {user} AS user_id, {time} AS event_timestamp, "
                f"event_timestamp + INTERVAL 1 MINUTE AS created, {features} FROM range({rows}) t(i)) "
                f"TO '{folder}/view{view}.parquet' (FORMAT PARQUET, COMPRESSION ZSTD)"
            )
        user, time = _USER.format(seed="i * 11", users=rows // HISTORY), _TIME.format(seed="i * 17")
        connection.execute(
            f"COPY (SELECT {user} AS user_id, {time} AS event_timestamp, (i % 2)::BIGINT AS label "
            f"FROM range({entities}) t(i)) TO '{folder}/entities.parquet' (FORMAT PARQUET)"
        )


def open_store(folder: Path, offline: dict[str, Any]) -> Any:
    """Create a Feast store with the three views applied."""
    import feast
    from feast import types as ft

    config = feast.RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / f"{offline['type'].rpartition('.')[2]}.db"),
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store=offline,
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    user = feast.Entity(name="user", join_keys=["user_id"], value_type=feast.ValueType.STRING)
    views = [
        feast.FeatureView(
            name=f"view{v}",
            entities=[user],
            schema=[
                feast.Field(name="user_id", dtype=ft.String),
                *(feast.Field(name=f"f{v}_{k}", dtype=ft.Float64) for k in range(FEATURES)),
            ],
            source=feast.FileSource(
                name=f"source{v}",
                path=str(folder / f"view{v}.parquet"),
                timestamp_field="event_timestamp",
                created_timestamp_column="created",
            ),
            ttl=TTL,
        )
        for v in range(VIEWS)
    ]
    store = feast.FeatureStore(config=config)
    store.apply([user, *views])
    return store


def by_hand(folder: Path, entities: pd.DataFrame) -> int:
    """Run the hand-written ASOF JOIN."""
    joins = " ".join(
        f"ASOF LEFT JOIN '{folder}/view{v}.parquet' AS t{v} "
        f"ON e.user_id = t{v}.user_id AND e.event_timestamp >= t{v}.event_timestamp"
        for v in range(VIEWS)
    )
    features = ", ".join(ref.partition(":")[2] for ref in REFS)
    with duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("e", entities)
        found = connection.sql(f"SELECT e.*, {features} FROM e {joins}").to_arrow_table()
    return int(found.num_rows)


def by_store(store: Any, entities: Any) -> int:
    """Run the same query through Feast."""
    job = store.get_historical_features(entity_df=entities, features=REFS)
    return int(job.to_arrow().num_rows)


def _offline(folder: Path, memory: str) -> dict[str, Any]:
    return {"type": OURS, "memory_limit": memory, "threads": THREADS, "temp_directory": str(folder / "spill")}


def _once(folder: str) -> None:
    by_store(open_store(Path(folder), _offline(Path(folder), MEMORY)), _entities(Path(folder)))


def _once_10m(folder: str) -> None:
    store = open_store(Path(folder), _offline(Path(folder), MEMORY_10M))
    query = f"SELECT * FROM '{folder}/entities.parquet'"
    job = store.get_historical_features(entity_df=query, features=REFS)
    rows = sum(batch.num_rows for batch in job.to_batches())
    assert rows == 10 * ENTITIES, rows


def _entities(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "entities.parquet")


def run() -> Sequence[Row]:
    """Compare with the hand-written join."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, ENTITIES, ROWS)
        store, entities = open_store(folder, _offline(folder, MEMORY)), _entities(folder)
        pair = alternate(
            timed(lambda: by_store(store, entities)), timed(lambda: by_hand(folder, entities)), rounds=5
        )
        cost = apart(_once, name)
    size = {"entity_rows": ENTITIES, "feature_rows": ROWS, "views": VIEWS, "features": len(REFS)}
    return [
        Row("point_in_time", pair.value, "s", "hand-written ASOF JOIN", pair.baseline, pair.samples, size),
        Row("point_in_time_memory", cost.peak_mib, "MiB", "bound", 1024, 1, {"memory_limit": MEMORY, **size}),
    ]


def run_vs_feast() -> Sequence[Row]:
    """Compare with Feast's own DuckDB store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, ENTITIES, ROWS)
        ours, entities = open_store(folder, _offline(folder, MEMORY)), _entities(folder)
        feasts = open_store(folder, {"type": "duckdb"})
        pair = alternate(
            timed(lambda: by_store(ours, entities)),
            timed(lambda: by_store(feasts, entities.copy())),
            rounds=1,
            warmup=0,
        )
    return [
        Row("point_in_time_vs_feast", pair.value, "s", "Feast's DuckDB store", pair.baseline, pair.samples)
    ]


def run_10m() -> Sequence[Row]:
    """Stream ten times the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, 10 * ENTITIES, 10 * ROWS)
        cost = apart(_once_10m, name)
    size = {"entity_rows": 10 * ENTITIES, "feature_rows": 10 * ROWS, "memory_limit": MEMORY_10M}
    return [
        Row(
            "point_in_time_10m_memory",
            cost.peak_mib,
            "MiB",
            "bound",
            4096,
            1,
            {"seconds": cost.seconds, **size},
        )
    ]


RUNS = {
    "point_in_time": run,
    "point_in_time_vs_feast": run_vs_feast,
}
if os.environ.get("HEADRACE_BENCH_LONG"):
    RUNS["point_in_time_10m"] = run_10m
