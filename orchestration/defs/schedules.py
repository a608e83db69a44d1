"""The hourly and nightly schedules."""

from collections.abc import Sequence

import dagster as dg

from feature_repo.group import FeatureGroup
from orchestration.defs.jobs import AHEAD, BEHIND, CHAIN, SCHEDULED, Job
from orchestration.defs.selection import chain_selection, fit_is_due
from orchestration.runtime import Runtime

_WAITING = dg.RunsFilter(
    job_name=CHAIN, statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED], tags=SCHEDULED
)


def hourly(job: Job, runtime: Runtime, batch: Sequence[FeatureGroup]) -> dg.ScheduleDefinition:
    """Run the newest day's chain every hour, so that decayed features follow the clock."""

    @dg.schedule(
        job=job,
        cron_schedule="0 * * * *",
        execution_timezone="UTC",
        name=f"{CHAIN}_hourly",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="The chain for the newest event day.",
    )
    def chain_hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        runtime.sync(runtime.settings, runtime.home)
        day = runtime.newest_day()
        if day is None:
            return dg.SkipReason("the lake is empty; `headrace ingest` or POST /v1/events fills it")
        if context.instance.get_runs(_WAITING, limit=1):
            return dg.SkipReason("the previous hour's run is still waiting; it will read the newest state")
        selection = chain_selection(batch, blend=fit_is_due(runtime), drift=True)
        return dg.RunRequest(
            partition_key=day.isoformat(),
            tags={**SCHEDULED, **AHEAD},
            asset_selection=selection.assets,
            asset_check_keys=selection.checks,
        )

    return chain_hourly


def nightly(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Run every night, before the day begins."""
    return dg.ScheduleDefinition(
        job=job,
        cron_schedule="30 3 * * *",
        execution_timezone="UTC",
        tags={**SCHEDULED, **BEHIND},
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
