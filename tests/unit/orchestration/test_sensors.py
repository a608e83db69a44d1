"""What starts the chain: changed days, and only those."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from feature_repo.home import Home
from feature_repo.lake import Lake
from feature_repo.settings import Settings
from orchestration.defs import jobs, keys
from orchestration.defs.jobs import CHAIN, LAKE
from orchestration.defs.schedules import hourly
from orchestration.defs.sensors import (
    MAX_CHAINS,
    RANGE_END,
    RANGE_START,
    changes_since,
    day_states,
    lake_sensor,
    run_requests,
)
from orchestration.runtime import Runtime
from tests.offline import day_events, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
TODAY = NOW.date()
FIRST = date(2024, 5, 20)


def states(*days: date, mark: str = "a") -> dict[str, str]:
    return {day.isoformat(): f"{mark}{day.day}" for day in days}


def asked(cursor: str | None, state: dict[str, str], today: date = TODAY) -> list[tuple[str | None, ...]]:
    found = run_requests(changes_since(cursor, state, FIRST, today))
    return [
        (r.job_name, r.partition_key or f"{r.tags[RANGE_START]}..{r.tags[RANGE_END]}")
        if r.partition_key or r.tags
        else (r.job_name, None)
        for r in found
    ]


def test_new_days_start_the_chain_in_order() -> None:
    state = states(DAY + timedelta(days=1), DAY)
    assert asked(None, state) == [(CHAIN, "2024-05-30"), (CHAIN, "2024-05-31")]


def test_unchanged_days_start_nothing() -> None:
    state = states(DAY, DAY + timedelta(days=1))
    assert asked(json.dumps(state), state) == []


def test_a_late_day_also_renews_the_newest() -> None:
    state = states(DAY, DAY + timedelta(days=1))
    changed = {**state, DAY.isoformat(): "changed"}
    assert asked(json.dumps(state), changed) == [(CHAIN, "2024-05-30"), (CHAIN, "2024-05-31")]


def test_the_same_change_has_the_same_run_key_and_another_change_another() -> None:
    state = states(DAY)
    keys_of = [
        run_requests(changes_since(None, s, FIRST, NOW.date()))[0].run_key
        for s in (state, state, states(DAY, mark="b"))
    ]
    assert keys_of[0] == keys_of[1] != keys_of[2]


def test_a_bulk_load_is_recorded_in_one_run_and_chained_only_for_the_newest() -> None:
    days = [FIRST + timedelta(days=n) for n in range(MAX_CHAINS + 3)]
    found = asked(None, states(*days))
    assert found[0] == (LAKE, "2024-05-20..2024-05-22")
    assert found[1:] == [(CHAIN, day.isoformat()) for day in days[3:]]


def test_days_before_the_first_partition_are_told_apart() -> None:
    early = FIRST - timedelta(days=400)
    changes = changes_since(None, states(early, DAY), FIRST, NOW.date())
    assert (changes.before, changes.days) == ((early,), (DAY,))


def test_a_day_that_has_not_begun_waits() -> None:
    tomorrow = NOW.date() + timedelta(days=1)
    changes = changes_since(None, states(tomorrow), FIRST, NOW.date())
    assert changes.days == ()
    assert changes.state == {}
    assert changes_since("{}", states(tomorrow), FIRST, tomorrow).days == (tomorrow,)


def test_the_state_of_a_day_follows_its_files(home: Home) -> None:
    lake = Lake(home.lake)
    write_events(lake, DAY, day_events(DAY, 5))
    before = day_states(lake)
    assert day_states(lake) == before
    write_events(lake, DAY, day_events(DAY, 5, offset=100), "part-1")
    after = day_states(lake)
    assert before.keys() == after.keys() == {DAY.isoformat()}
    assert before != after


@pytest.fixture
def runtime(settings: Settings, home: Home) -> Runtime:
    found = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    write_events(found.lake, DAY, day_events(DAY, 5))
    return found


@pytest.fixture
def sensor(runtime: Runtime) -> Callable[[str | None], dg.SensorResult]:
    partitions = keys.daily_partitions(runtime)

    def sense(cursor: str | None) -> dg.SensorResult:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            found = lake_sensor([jobs.chain_job(), jobs.lake_job()], partitions, runtime)(context)
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
    found = lake_sensor([jobs.chain_job(), jobs.lake_job()], keys.daily_partitions(waking), waking)
    with dg.DagsterInstance.ephemeral() as instance:
        result = found(dg.build_sensor_context(instance=instance))
    assert synced == ["yes"]
    assert isinstance(result, dg.SensorResult)
    assert json.loads(result.cursor or "") == day_states(runtime.lake)


def test_the_sensor_remembers_what_it_saw(sensor: Callable[[str | None], dg.SensorResult]) -> None:
    first = sensor(None)
    assert [r.partition_key for r in first.run_requests or []] == ["2024-05-30"]
    again = sensor(first.cursor)
    assert not again.run_requests
    assert again.skip_reason is not None
    assert again.skip_reason.skip_message == "no day changed"


def test_the_hour_asks_for_the_newest_day(runtime: Runtime) -> None:
    schedule = hourly(jobs.chain_job(), runtime)
    assert schedule.cron_schedule == "0 * * * *"
    found = schedule(dg.build_schedule_context(scheduled_execution_time=NOW))
    assert isinstance(found, dg.RunRequest)
    assert found.partition_key == "2024-05-30"


def test_the_hour_skips_an_empty_lake(settings: Settings, home: Home) -> None:
    empty = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    found = hourly(jobs.chain_job(), empty)(dg.build_schedule_context(scheduled_execution_time=NOW))
    assert isinstance(found, dg.SkipReason)
    assert "the lake is empty; `headrace ingest`" in (found.skip_message or "")


def test_partitions_begin_a_week_before_the_lake_and_include_today(settings: Settings, home: Home) -> None:
    clock = Runtime(settings, home, settings.clock, lambda *_: frozenset())
    write_events(clock.lake, DAY, day_events(DAY, 1))
    found = keys.daily_partitions(clock)
    assert found.get_first_partition_key() == "2024-05-23"
    assert found.has_partition_key(clock.now().date().isoformat())
