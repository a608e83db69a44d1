"""Asset checks for drift of behaviour and of each batch group, and the daily parity of served features."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from feature_repo.errors import BuildError
from feature_repo.group import FeatureGroup
from feature_repo.online import open_store
from feature_repo.settings import Settings
from orchestration.builds.build import build_of_day
from orchestration.defs.about import LAYER
from orchestration.defs.jobs import SCHEDULED
from orchestration.defs.keys import EVENTS, PARITY, RUNTIME, days_of, features_key, view_key
from orchestration.defs.results import kept_age, result_of
from orchestration.runtime import Runtime

DRIFT, BEHAVIOUR, BUDGET, READ_BACK = "drift", "behaviour", "budget", "read_back"
PARITY_JOB = "parity_daily"


def drift_check(group: FeatureGroup, partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Define the check that the day's build resembles the week before; it warns, never blocks."""
    key = features_key(group)

    @dg.asset_check(
        asset=key,
        name=DRIFT,
        partitions_def=partitions,
        description="Distributions, null shares and cardinalities against the 7 days before.",
        required_resource_keys={RUNTIME},
    )
    def drift(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from orchestration.monitoring.drift import check_drift  # noqa: PLC0415 - scipy takes a second to import

        runtime: Runtime = context.resources.runtime
        [day] = days_of(context)
        build = build_of_day(runtime.builds, group, day)
        if build is None:
            return dg.AssetCheckResult(passed=True, description=f"no build of {day}: it was held back")
        newest = day == runtime.newest_day()
        report = check_drift(runtime.settings, runtime.home, group, build, plots=newest)
        if report is None:
            return dg.AssetCheckResult(
                passed=True, description="no build of the previous week to compare with"
            )
        return result_of(report, runtime.page_url)

    return drift


def behaviour_check(partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Define the check that visitors behave as in the weeks before; it warns, never blocks.

    Unfinished days are not judged, because their evening is missing; of a range of days, only the last is.
    """

    @dg.asset_check(
        asset=EVENTS,
        name=BEHAVIOUR,
        partitions_def=partitions,
        description="Visits, conversion and tastes of the last 1, 3 and 7 days against the previous 4 weeks.",
        required_resource_keys={RUNTIME},
    )
    def behaviour(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from orchestration.monitoring.behaviour import check_behaviour  # noqa: PLC0415 - scipy takes a second to import

        runtime: Runtime = context.resources.runtime
        over = runtime.now().date() - timedelta(days=1)
        day = min(days_of(context)[-1], over)
        newest = day == min(over, runtime.newest_day() or over)
        report = check_behaviour(runtime.settings, runtime.home, day, plots=newest)
        if report is None:
            return dg.AssetCheckResult(passed=True, description=f"no events of {day}, the last finished day")
        if not report.results:
            return dg.AssetCheckResult(passed=True, description="fewer than 7 previous days to compare with")
        return result_of(report, runtime.page_url)

    return behaviour


def read_back_check(group: FeatureGroup, partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Define the check that the store returns what was materialized, on a sample by key hash."""
    key = view_key(group)

    @dg.asset_check(
        asset=key,
        name=READ_BACK,
        partitions_def=partitions,
        description="A hash sample of the build, read back from the online store and compared.",
        required_resource_keys={RUNTIME},
    )
    def read_back(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from quality.checks.online_sample import check_online  # noqa: PLC0415

        runtime: Runtime = context.resources.runtime
        build = runtime.builds.current(group.name, group.version)
        if build is None:
            msg = f"{group.name}: nothing is online to read back; materialize a build first"
            raise BuildError(msg)
        store = open_store(runtime.settings, runtime.home)
        try:
            report = check_online(group, build.path, store, runtime.home.docs, keep_page=kept_age(context))
            return result_of(report, runtime.page_url)
        finally:
            store.close()

    return read_back


def parity_asset(partitions: dg.PartitionsDefinition, settings: Settings) -> dg.AssetsDefinition:
    """Define the comparison of a day's served features with offline values."""

    @dg.asset(
        key=PARITY,
        partitions_def=partitions,
        group_name="quality",
        kinds={"duckdb", "python"},
        owners=settings.owners,
        tags={LAYER: "quality"},
        description="Sampled decisions of a day: the features they used, recomputed and compared.",
        check_specs=[
            dg.AssetCheckSpec(
                BUDGET,
                asset=PARITY,
                description="Values that differ, per feature.",
                partitions_def=partitions,
            )
        ],
        required_resource_keys={RUNTIME},
    )
    def parity(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        from orchestration.monitoring.parity import run_parity  # noqa: PLC0415

        runtime: Runtime = context.resources.runtime
        [day] = days_of(context)
        run = run_parity(runtime.settings, runtime.home, day)
        yield dg.MaterializeResult(
            metadata={"decisions": run.decisions, "rows": run.report.rows},
            check_results=[result_of(run.report, runtime.page_url, BUDGET)],
        )

    return parity


def parity_schedule(runtime: Runtime) -> dg.ScheduleDefinition:
    """Define the schedule: parity of the previous day, at half past midnight."""

    @dg.schedule(
        job=dg.define_asset_job(PARITY_JOB, selection=dg.AssetSelection.assets(PARITY)),
        cron_schedule="30 0 * * *",
        execution_timezone="UTC",
        name=PARITY_JOB,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Parity of the previous day's decisions.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = runtime.now().date() - timedelta(days=1)
        return dg.RunRequest(partition_key=day.isoformat(), tags=SCHEDULED)

    return daily
