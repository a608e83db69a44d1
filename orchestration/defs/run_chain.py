"""Runs the whole chain in process, for the demo and the command line: the same assets that the UI shows."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg

from feature_repo.errors import BuildError
from feature_repo.group import FeatureGroup
from feature_repo.groups import batch_groups
from feature_repo.settings import Settings
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import CHAIN
from orchestration.defs.keys import daily_partitions
from orchestration.monitoring.failed_runs import failed_check, said
from orchestration.monitoring.orphaned_runs import held
from orchestration.processes.dagster_home import open_instance
from orchestration.runtime import Runtime

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Level of Dagster's console log: a failure is raised as one sentence, and the UI has the rest."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChainResult:
    """The result of a chain run.

    Attributes:
        rows: rows of each group's current build.
        seconds: wall time of the whole run.
        days: the partitions that ran, ascending.
    """

    rows: Mapping[str, int]
    seconds: float
    days: tuple[date, ...]


def run_chain(
    settings: Settings,
    days: Sequence[date] | None = None,
    runtime: Runtime | None = None,
    groups: Sequence[FeatureGroup] | None = None,
) -> ChainResult:
    """Sync the lake, then run the chain for each day, oldest first.

    Args:
        days: event days; default: the newest that has begun.
        groups: batch groups; default: every declared one.

    Raises:
        BuildError: the lake is empty, or a step or a blocking check failed; names it. Online rows stay.
    """
    runtime = runtime or Runtime.of(settings)
    started = time.monotonic()
    runtime.sync(settings, runtime.home)
    chosen = _days(runtime, days)
    batch = tuple(batch_groups().values()) if groups is None else groups
    job = build_definitions(runtime, batch).resolve_job_def(CHAIN)
    with open_instance(runtime.home) as instance, held(runtime.home.dagster) as tags:
        for day in chosen:
            result = job.execute_in_process(
                partition_key=day.isoformat(),
                instance=instance,
                raise_on_error=False,
                run_config=_QUIET,
                tags=tags,
            )
            if not result.success:
                raise BuildError(failure_of(result, day))
            logger.info("chain of %s: %.1f s so far", day, time.monotonic() - started)
    current = {group.name: runtime.builds.current(group.name, group.version) for group in batch}
    rows = {name: build.rows for name, build in current.items() if build is not None}
    return ChainResult(rows, time.monotonic() - started, tuple(chosen))


def days_between(first: date, last: date) -> list[date]:
    """List the days from the first to the last, both included.

    Raises:
        BuildError: the last is before the first.
    """
    if last < first:
        msg = f"--to {last} is before --from {first}; swap them"
        raise BuildError(msg)
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _days(runtime: Runtime, days: Sequence[date] | None) -> list[date]:
    if days is not None:
        partitions = daily_partitions(runtime)
        if unknown := [day for day in sorted(days) if not partitions.has_partition_key(day.isoformat())]:
            first = partitions.get_first_partition_key()
            msg = f"{unknown[0]}: no partition; they run from {first} (a week before the lake) to today"
            raise BuildError(msg)
        return sorted(days)
    newest = runtime.newest_day()
    if newest is None:
        msg = f"{runtime.lake.root}: holds no events; fill it with `headrace ingest PATH` or POST /v1/events"
        raise BuildError(msg)
    return [newest]


def failure_of(result: dg.ExecuteInProcessResult, day: date) -> str:
    """Describe a failure in one sentence: the check and its finding, or the step and its error."""
    if (check := failed_check(result.all_events)) is not None:
        return f"chain of {day}: check of {check[0]}: {check[1]}; online rows are unchanged"
    for event in result.all_events:
        if event.is_step_failure:
            return f"chain of {day}: {event.step_key}: {said(event.step_failure_data.error)}"
    messages = [event.message for event in result.all_events if event.is_failure and event.message]
    return f"chain of {day}: {messages[0] if messages else 'failed before any step ran'}"
