"""Figures of assets that Dagster does not build: the event log, and the views that the stream maintains."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from feature_repo.lake.lake import Lake
from feature_repo.online import open_store
from feature_repo.settings import Settings
from orchestration.defs.metadata import time_bounds
from orchestration.runtime import Runtime
from streaming.sessions.heartbeat import Heartbeat, read_heartbeats


@dataclass(frozen=True)
class Observation:
    """Figures of one asset.

    Attributes:
        state: changes only when the asset did; excludes ages, which change with every observation.
        figures: for people, including ages.
    """

    state: str
    figures: dict[str, Any]


def observe_log(runtime: Runtime) -> Observation:
    """Observe the log: the ends of its partitions, and how much of it the lake holds.

    Raises:
        LogError: the log cannot be read; says why.
    """
    from streaming.log import open_log  # noqa: PLC0415

    log = open_log(runtime.settings, runtime.home)
    try:
        ends = {str(n): log.end(n) for n in range(log.partitions)}
    finally:
        log.close()
    rows = _rows(runtime.lake)
    newest = _newest_event(runtime.lake)
    figures: dict[str, Any] = {
        "dagster/row_count": rows,
        "partitions": len(ends),
        "ends": ends,
        **_age(newest, runtime.now()),
    }
    return Observation(f"{ends} {rows} {newest}", figures)


def observe_stream(runtime: Runtime) -> Observation:
    """Observe the views that the stream maintains, from its heartbeats.

    Raises:
        StoreError: the online store is unreachable.
    """
    store = open_store(runtime.settings, runtime.home)
    try:
        beats = read_heartbeats(store)
    finally:
        store.close()
    return stream_observation(beats, runtime.settings, runtime.now())


def stream_observation(beats: list[Heartbeat], settings: Settings, now: datetime) -> Observation:
    """Summarize all partitions of the stream."""
    if not beats:
        return Observation("none", {"status": "no heartbeat yet: start it with `headrace stream`"})
    lag = max(beat.lag_s(now) for beat in beats)
    newest = max((b.last_event_time for b in beats if b.last_event_time is not None), default=None)
    stale = lag > settings.stream_stale_s
    written, sessions = sum(b.counts.written for b in beats), sum(b.sessions for b in beats)
    status = "stale: is `headrace stream` running?" if stale else "running"
    figures: dict[str, Any] = {
        "status": status,
        "lag_s": round(lag, 1),
        "live_sessions": sessions,
        "rows_written": written,
        "state_bytes": sum(b.state_bytes for b in beats),
        **_age(newest, now),
    }
    return Observation(f"{stale} {newest} {sessions} {written}", figures)


def _age(newest: datetime | None, now: datetime) -> dict[str, Any]:
    if newest is None:
        return {}
    return {
        "newest_event": newest.isoformat(),
        "newest_event_age_s": round((now - newest).total_seconds(), 1),
    }


def _rows(lake: Lake) -> int:
    return sum(pq.read_metadata(path).num_rows for day in lake.days() for path in lake.files_of(day))


def _newest_event(lake: Lake) -> datetime | None:
    found = []
    for day in lake.days()[-1:]:
        for path in lake.files_of(day):
            with pq.ParquetFile(path) as file:
                if bounds := time_bounds(file, "event_time"):
                    found.append(bounds[1])
    return max(found, default=None)
