"""Retention of Dagster's runs, their events, check results and compute logs, which Dagster never removes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable

from feature_repo.home import Home

if TYPE_CHECKING:
    from dagster._core.storage.dagster_run import RunRecord

logger = logging.getLogger(__name__)

PARTITION, RANGE = "dagster/partition", "dagster/asset_partition_range_start"
PAGE = 500


@dataclass(frozen=True)
class KeepRuns:
    """Retention periods of runs.

    Attributes:
        all: every finished run.
        failed: runs that failed or were canceled.
        last: the last successful run of each job and partition; it tells Dagster what is built.
    """

    all: timedelta = timedelta(days=2)
    failed: timedelta = timedelta(days=30)
    last: timedelta = timedelta(days=120)


KEEP_RUNS = KeepRuns()


def prune_runs(instance: dg.DagsterInstance, home: Home, now: datetime, keep: KeepRuns = KEEP_RUNS) -> int:
    """Remove runs past their retention and their files, newest first; return how many."""
    old = superseded_runs(_records(instance), now, keep)
    for run_id in old:
        instance.delete_run(run_id)
        _forget_checks(instance, run_id)
        _remove_files(home, run_id)
    return len(old)


def superseded_runs(records: Iterable[RunRecord], now: datetime, keep: KeepRuns) -> list[str]:
    """List the ids of runs to remove.

    Args:
        records: run records, newest first.
    """
    known: set[tuple[object, ...]] = set()
    found = []
    for record in records:
        run, age = record.dagster_run, now - record.create_timestamp
        key = (run.job_name, run.asset_selection, run.tags.get(PARTITION) or run.tags.get(RANGE))
        good = run.status == dg.DagsterRunStatus.SUCCESS
        if run.status not in FINISHED_STATUSES:
            limit = keep.last  # runs left by a killed daemon never finish
        elif good:
            limit = keep.all if key in known else keep.last
        else:
            limit = keep.failed
        if age > limit:
            found.append(run.run_id)
        elif good:
            known.add(key)
    return found


def _records(instance: dg.DagsterInstance) -> Iterator[RunRecord]:
    cursor: str | None = None
    while page := instance.get_run_records(limit=PAGE, cursor=cursor):
        yield from page
        cursor = page[-1].dagster_run.run_id


def _forget_checks(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete check results, which outlive their run in Dagster's storage; no public call removes them."""
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):
        table = AssetCheckExecutionsTable
        with storage.index_connection() as connection:
            connection.execute(table.delete().where(table.c.run_id == run_id))


def _remove_files(home: Home, run_id: str) -> None:
    """Remove the run's own database and compute logs, which Dagster leaves behind."""
    for path in (home.dagster / "history" / "runs").glob(f"{run_id}.db*"):
        path.unlink(missing_ok=True)
    shutil.rmtree(home.dagster / "storage" / run_id, ignore_errors=True)
