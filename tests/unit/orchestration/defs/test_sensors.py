"""What starts the chain: changed days, and only those."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.defs import jobs, keys
from orchestration.defs.jobs import CHAIN, LAKE, SCHEDULED, SENSED
from orchestration.defs.schedules import hourly
from orchestration.defs.selection import fit_is_due
from orchestration.defs.sensors import RANGE_END, RANGE_START, day_states, lake_sensor, request_of
from orchestration.defs.turns import Asked, Turn, changes_since
from orchestration.runtime import Runtime
from tests.support.offline import click_group, day_events, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def test_the_state_of_a_day_follows_its_files(home: Home) -> None:
    lake = Lake(home.lake)
    write_events(lake, DAY, day_events(DAY, 5))
    before = day_states(lake)
    assert day_states(lake) == before
    write_events(lake, DAY, day_events(DAY, 5, offset=100), "part-1")
    after = day_states(lake)
    assert before.keys() == after.keys() == {DAY}
    assert before != after


@pytest.fixture
def runtime(settings: Settings, home: Home) -> Runtime:
    found = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    write_events(found.lake, DAY, day_events(DAY, 5))
    return found


def sensor_of(runtime: Runtime) -> dg.SensorDefinition:
    found = [jobs.chain_job(), jobs.lake_job()]
    return lake_sensor(found, keys.daily_partitions(runtime), runtime, (click_group(),))


@pytest.fixture
def sensor(runtime: Runtime) -> Callable[[str | None], dg.SensorResult]:
    def sense(cursor: str | None) -> dg.SensorResult:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            found = sensor_of(runtime)(context)
            assert isinstance(found, dg.SensorResult)
            return found

    return sense


def test_the_sensor_syncs_the_log_first(
    settings: Settings, home: Home, sensor: Callable[[str | None], dg.SensorResult], runtime: Runtime
) -> None:
    synced: list[str] = []

    def sync(_settings: Settings, of: Home) -> frozenset[date]:
        write_events(Lake(of.lake), DAY, day_events(DAY, 5, offset=50), "part-1")
        synced.append("yes")
        return frozenset({DAY})

    waking = Runtime(settings, home, lambda: NOW, sync)
    with dg.DagsterInstance.ephemeral() as instance:
        result = sensor_of(waking)(dg.build_sensor_context(instance=instance))
    assert synced == ["yes"]
    assert isinstance(result, dg.SensorResult)
    changes = changes_since(Asked(), day_states(runtime.lake), DAY, NOW.date())
    assert Asked.read(result.cursor).days == {DAY.isoformat(): changes.state[DAY]}


def test_the_sensor_remembers_what_it_saw(sensor: Callable[[str | None], dg.SensorResult]) -> None:
    first = sensor(None)
    assert [r.partition_key for r in first.run_requests or []] == ["2024-05-30"]
    again = sensor(first.cursor)
    assert not again.run_requests
    assert again.skip_reason is not None
    assert again.skip_reason.skip_message == "no day changed"


def test_the_hour_asks_for_the_newest_day(runtime: Runtime) -> None:
    schedule = hourly(jobs.chain_job(), runtime, (click_group(),))
    assert schedule.cron_schedule == "0 * * * *"
    with dg.DagsterInstance.local_temp() as instance:
        found = schedule(dg.build_schedule_context(instance=instance, scheduled_execution_time=NOW))
    assert isinstance(found, dg.RunRequest)
    assert found.partition_key == "2024-05-30"
    assert int(found.tags["dagster/priority"]) > 0
    asked = {key.to_user_string() for key in found.asset_selection or ()}
    assert {"features/clicks", "feast/clicks", "models/blend"} <= asked
    assert {"drift", "behaviour", "gate"} <= {key.name for key in found.asset_check_keys or ()}


def test_the_hour_asks_for_no_second_run_while_one_waits(runtime: Runtime) -> None:
    schedule = hourly(jobs.chain_job(), runtime, (click_group(),))
    with dg.DagsterInstance.local_temp() as instance:
        queued(instance, CHAIN, DAY, SCHEDULED)
        found = schedule(dg.build_schedule_context(instance=instance, scheduled_execution_time=NOW))
    assert isinstance(found, dg.SkipReason)
    assert "still waiting" in (found.skip_message or "")


def test_the_hour_skips_an_empty_lake(settings: Settings, home: Home) -> None:
    empty = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    found = hourly(jobs.chain_job(), empty, ())(dg.build_schedule_context(scheduled_execution_time=NOW))
    assert isinstance(found, dg.SkipReason)
    assert "the lake is empty; `headrace ingest`" in (found.skip_message or "")


def test_partitions_begin_a_week_before_the_lake_and_include_today(settings: Settings, home: Home) -> None:
    clock = Runtime(settings, home, settings.clock, lambda *_: frozenset())
    write_events(clock.lake, DAY, day_events(DAY, 1))
    found = keys.daily_partitions(clock)
    assert found.get_first_partition_key() == "2024-05-23"
    assert found.has_partition_key(clock.now().date().isoformat())


def queued(instance: dg.DagsterInstance, job: str, day: date, tags: dict[str, str]) -> dg.DagsterRun:
    run = dg.DagsterRun(
        job_name=job,
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={**tags, "dagster/partition": day.isoformat()},
    )
    return instance.add_run(run)


def sensed(runtime: Runtime, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    found = sensor_of(runtime)(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(found, dg.SensorResult)
    return found


def test_nothing_is_asked_for_while_a_run_of_the_sensor_waits(runtime: Runtime) -> None:
    other = DAY + timedelta(days=1)
    with dg.DagsterInstance.ephemeral() as instance:
        queued(instance, CHAIN, DAY, SENSED)
        write_events(runtime.lake, other, day_events(other, 5))
        found = sensed(runtime, instance)
        assert not found.run_requests
        assert "a run waits already" in (found.skip_reason.skip_message if found.skip_reason else "")
        # The day that the waiting run is of counts as asked for, the other one does not.
        assert list(Asked.read(found.cursor).days) == [DAY.isoformat()]
        [run] = instance.get_runs()
        instance.report_run_canceled(run)
        later = sensed(runtime, instance, found.cursor)
        assert [r.partition_key for r in later.run_requests or ()] == [other.isoformat()]


def test_a_whole_chain_that_a_person_queued_does_what_the_sensor_would_ask_for(runtime: Runtime) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        queued(instance, CHAIN, DAY, {})
        found = sensed(runtime, instance)
        assert not found.run_requests


def test_a_part_of_the_chain_that_a_person_queued_does_not(runtime: Runtime) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = queued(instance, CHAIN, DAY, {})
        instance.delete_run(run.run_id)
        instance.add_run(run._replace(asset_selection=frozenset({keys.EVENTS})))
        found = sensed(runtime, instance)
        assert [r.partition_key for r in found.run_requests or ()] == [DAY.isoformat()]


def test_the_first_run_of_a_day_judges_drift_and_the_next_leaves_it_to_the_hour() -> None:
    groups = (click_group(),)
    names = []
    for first in (True, False):
        found = request_of(Turn("chain", (DAY,), first, "key"), groups, fit=first)
        names.append({key.name for key in found.asset_check_keys or ()})
        assert (keys.BLEND in (found.asset_selection or ())) == first
        assert int(found.tags["dagster/priority"]) < 0
    assert names[0] - names[1] == {"drift", "behaviour", "gate"}
    assert {"contract", "advice", "read_back"} <= names[1]


def test_a_range_of_days_is_asked_for_as_one_run() -> None:
    last = DAY + timedelta(days=9)
    found = request_of(Turn("lake", (DAY, last), True, "key"), (), fit=False)
    assert (found.job_name, found.tags[RANGE_START], found.tags[RANGE_END]) == (
        LAKE,
        DAY.isoformat(),
        last.isoformat(),
    )


def test_a_fit_is_due_once_a_while_on_a_lake_that_changed(runtime: Runtime) -> None:
    every = runtime.settings.blend_every_s
    changed = runtime.lake_changed()
    assert changed > 0
    assert fit_is_due(runtime, now=lambda: changed + every)
    assert not fit_is_due(runtime, asked=changed, now=lambda: changed + every - 1)
    current = runtime.home.models / "CURRENT"
    current.parent.mkdir()
    current.touch()
    os.utime(current, (changed - 10, changed - 10))
    assert not fit_is_due(runtime, now=lambda: changed - 10 + every - 1)
    assert fit_is_due(runtime, now=lambda: changed - 10 + every)
    os.utime(current, (changed + 1, changed + 1))
    assert not fit_is_due(runtime, now=lambda: changed + 10 * every)
