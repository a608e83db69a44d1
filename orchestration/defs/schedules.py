"""The hourly schedule."""

import dagster as dg

from orchestration.defs.jobs import CHAIN, Job
from orchestration.runtime import Runtime


def hourly(job: Job, runtime: Runtime) -> dg.ScheduleDefinition:
    """Every hour the chain of the newest day, so that decayed features follow the clock."""

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
        return dg.RunRequest(partition_key=day.isoformat())

    return chain_hourly


def nightly(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every night, before the day begins."""
    return dg.ScheduleDefinition(
        job=job,
        cron_schedule="30 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
