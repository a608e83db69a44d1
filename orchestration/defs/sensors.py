"""The sensor: new events in the log become lake days, and changed days start the chain."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import dagster as dg

from feature_repo.lake import Lake
from orchestration.defs.jobs import CHAIN, LAKE, Job
from orchestration.fingerprint import fingerprint
from orchestration.runtime import Runtime

INTERVAL_S = 30
MAX_CHAINS = 7
"""Changed days that get the whole chain at once. A bulk load of months is a backfill's business."""
_RELOAD = (
    "the lake begins %s, before the first partition %s: reload the code location (Deployment → Reload) "
    "to see those %d days"
)
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class Changes:
    """Days that changed since the cursor.

    Attributes:
        days: changed days, ascending.
        before: changed days older than the first partition; they need a reload of the code location.
        state: fingerprint of every day; the next cursor.
    """

    days: tuple[date, ...]
    before: tuple[date, ...]
    state: Mapping[str, str]


def day_states(lake: Lake) -> dict[str, str]:
    """Fingerprint of each event day's files."""
    return {d.isoformat(): fingerprint(lake.files_of(d)) for d in lake.days()}


def changes_since(cursor: str | None, state: Mapping[str, str], first: date, today: date) -> Changes:
    """Compare with the cursor. Days that have not begun wait and stay out of the state."""
    seen: dict[str, str] = json.loads(cursor) if cursor else {}
    begun = {day: found for day, found in state.items() if date.fromisoformat(day) <= today}
    changed = sorted(date.fromisoformat(day) for day, found in begun.items() if seen.get(day) != found)
    return Changes(
        days=tuple(day for day in changed if day >= first),
        before=tuple(day for day in changed if day < first),
        state=begun,
    )


def run_requests(changes: Changes) -> list[dg.RunRequest]:
    """The chain for the newest changed days; beyond those, one run that records the older days' events."""
    chained = changes.days[-MAX_CHAINS:]
    older = changes.days[: -len(chained)] if chained else ()
    requests = [_chain(day, changes.state[day.isoformat()]) for day in chained]
    newest = date.fromisoformat(max(changes.state)) if changes.state else None
    if chained and newest is not None and newest > chained[-1]:
        # Older days changed: what is online was computed from them too.
        stamp = fingerprint([], *(f"{d}{changes.state[d.isoformat()]}" for d in changes.days))
        requests.append(_chain(newest, stamp))
    if older:
        stamp = fingerprint([], *(changes.state[d.isoformat()] for d in older))
        bounds = {RANGE_START: older[0].isoformat(), RANGE_END: older[-1].isoformat()}
        requests.insert(0, dg.RunRequest(run_key=f"{LAKE}:{stamp}", tags=bounds, job_name=LAKE))
    return requests


def _chain(day: date, stamp: str) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"{CHAIN}:{day}:{stamp}", partition_key=day.isoformat(), job_name=CHAIN)


def lake_sensor(
    jobs: list[Job], partitions: dg.DailyPartitionsDefinition, runtime: Runtime
) -> dg.SensorDefinition:
    """Syncs the log into the lake and starts the chain for new and changed days."""
    first = partitions.start.date()

    @dg.sensor(
        jobs=jobs,
        name="lake_sensor",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Log → lake; new and changed days start the chain.",
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        runtime.sync(runtime.settings, runtime.home)
        changes = changes_since(context.cursor, day_states(runtime.lake), first, runtime.now().date())
        requests = run_requests(changes)
        if changes.before:
            context.log.warning(_RELOAD, changes.before[0], first, len(changes.before))
        if not requests:
            return dg.SensorResult(skip_reason="no day changed", cursor=json.dumps(changes.state))
        return dg.SensorResult(run_requests=requests, cursor=json.dumps(changes.state))

    return sense
