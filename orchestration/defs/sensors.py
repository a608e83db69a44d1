"""The sensor that syncs the log to the lake and starts the chain for changed days, one run at a time."""

import time
from collections.abc import Sequence
from datetime import date

import dagster as dg
import msgspec

from feature_repo.group import FeatureGroup
from feature_repo.lake.lake import Lake
from orchestration.builds.fingerprint import fingerprint
from orchestration.defs.jobs import BEHIND, CHAIN, LAKE, SENSED, Job
from orchestration.defs.keys import AUTOMATIC, SENSOR
from orchestration.defs.selection import chain_selection, fit_is_due
from orchestration.defs.turns import Asked, Turn, changes_since, covered, next_turn
from orchestration.monitoring.orphaned_runs import end_orphans
from orchestration.runtime import Runtime

_RELOAD = (
    "the lake begins %s, before the first partition %s: reload the code location (Deployment → Reload) "
    "to see those %d days"
)
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_WAITING = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED])


def day_states(lake: Lake) -> dict[date, str]:
    """Return a fingerprint of each event day's files."""
    return {day: fingerprint(lake.files_of(day)) for day in lake.days()}


def waiting_days(runs: Sequence[dg.DagsterRun]) -> set[date]:
    """Return the days with a waiting run that includes everything the sensor would request."""
    whole = (run for run in runs if run.job_name == CHAIN and (is_ours(run) or not run.asset_selection))
    return {date.fromisoformat(day) for run in whole if (day := run.tags.get("dagster/partition"))}


def is_ours(run: dg.DagsterRun) -> bool:
    """Return whether the sensor requested a run."""
    return run.tags.get(AUTOMATIC) == SENSOR


def request_of(turn: Turn, batch: Sequence[FeatureGroup], *, fit: bool) -> dg.RunRequest:
    """Create the run of a turn. It waits behind any run that a person starts.

    The first run of a day also checks drift; later ones leave that to the hourly schedule.
    """
    tags = {**SENSED, **BEHIND}
    if turn.kind == "lake":
        bounds = {RANGE_START: turn.days[0].isoformat(), RANGE_END: turn.days[-1].isoformat()}
        return dg.RunRequest(run_key=f"{LAKE}:{turn.key}", tags={**tags, **bounds}, job_name=LAKE)
    selection = chain_selection(batch, blend=fit, drift=turn.first)
    return dg.RunRequest(
        run_key=f"{CHAIN}:{turn.days[0]}:{turn.key}",
        partition_key=turn.days[0].isoformat(),
        job_name=CHAIN,
        tags=tags,
        asset_selection=selection.assets,
        asset_check_keys=selection.checks,
    )


def lake_sensor(
    jobs: list[Job],
    partitions: dg.DailyPartitionsDefinition,
    runtime: Runtime,
    batch: Sequence[FeatureGroup],
) -> dg.SensorDefinition:
    """Define the sensor that syncs the log to the lake and starts the chain for new and changed days."""
    first = partitions.start.date()

    @dg.sensor(
        jobs=jobs,
        name="lake_sensor",
        minimum_interval_seconds=round(runtime.settings.chain_every_s),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Log → lake; new and changed days start the chain, at most one run of which waits.",
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        for run in end_orphans(context.instance):
            context.log.warning("run %s: its process is gone; marked as failed", run)
        runtime.sync(runtime.settings, runtime.home)
        asked = Asked.read(context.cursor)
        states, today = day_states(runtime.lake), runtime.now().date()
        changes = changes_since(asked, states, first, today)
        if changes.before:
            context.log.warning(_RELOAD, changes.before[0], first, len(changes.before))
        # After the states were read: what waits now starts later, and reads at least those.
        waiting = context.instance.get_runs(_WAITING)
        asked = covered(asked, changes, waiting_days(waiting))
        if any(is_ours(run) for run in waiting):
            return dg.SensorResult(
                skip_reason="a run waits already; it will read the newest state", cursor=asked.write()
            )
        found = next_turn(asked, changes_since(asked, states, first, today))
        if found is None:
            return dg.SensorResult(skip_reason="no day changed", cursor=asked.write())
        turn, asked = found
        fit = turn.kind == "chain" and fit_is_due(runtime, asked.fit)
        if fit:
            asked = msgspec.structs.replace(asked, fit=time.time())
        return dg.SensorResult(run_requests=[request_of(turn, batch, fit=fit)], cursor=asked.write())

    return sense
