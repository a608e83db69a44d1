"""The nightly job: what it removes is in the run; the log is trimmed once the lake has its records."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from feature_repo.contract.validation import encode
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.builds.lake_sync import sync_lake, trim_log
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import RETENTION
from orchestration.runtime import Runtime
from streaming.log import open_log
from tests.support.offline import click_group, day_events, write_events

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
DAY = date(2024, 5, 30)


def publish(settings: Settings, home: Home, count: int) -> None:
    log = open_log(settings, home)
    log.publish([(e.session_id, encode(e)) for e in day_events(DAY, count)])
    log.close()


def test_the_job_removes_and_says_what(settings: Settings, home: Home) -> None:
    runtime = Runtime(settings.model_copy(update={"lake_retention_days": 400}), home, lambda: NOW)
    for day in (date(2022, 1, 1), DAY):
        write_events(runtime.lake, day, day_events(day, 2))
    old = Builds(home.features).path("clicks", NOW - timedelta(days=200))
    new = Builds(home.features).path("clicks", NOW - timedelta(days=1))
    for path in (old, new):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    definitions = build_definitions(runtime, (click_group(),))
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def(RETENTION).execute_in_process(instance=instance)
    assert done.success
    assert not old.exists()
    assert new.exists()
    assert runtime.lake.days() == [DAY]
    [output] = [e for e in done.all_events if e.is_successful_output]
    metadata = output.step_output_data.metadata
    assert {name: metadata[name].value for name in ("builds", "lake_days")} == {"builds": 1, "lake_days": 1}


def test_the_lake_is_kept_for_ever_unless_a_setting_says_otherwise(settings: Settings, home: Home) -> None:
    runtime = Runtime(settings, home, lambda: NOW)
    far = (NOW - timedelta(days=8_000)).date()
    for day in (far, DAY):
        write_events(runtime.lake, day, day_events(day, 2))
    definitions = build_definitions(runtime, (click_group(),))
    with dg.DagsterInstance.ephemeral() as instance:
        assert definitions.resolve_job_def(RETENTION).execute_in_process(instance=instance).success
    assert runtime.lake.days() == [far, DAY]


def test_it_runs_every_night(settings: Settings, home: Home) -> None:
    runtime = Runtime(settings, home, lambda: NOW)
    schedule = build_definitions(runtime, (click_group(),)).resolve_schedule_def(f"{RETENTION}_schedule")
    assert schedule.cron_schedule == "30 3 * * *"


def test_syncing_brings_the_lake_up_to_the_log_once(settings: Settings, home: Home) -> None:
    publish(settings, home, 10)
    assert sync_lake(settings, home) == {DAY}
    assert sync_lake(settings, home) == frozenset()
    assert Lake(home.lake).days() == [DAY]


def test_trimming_syncs_first(settings: Settings, home: Home) -> None:
    publish(settings, home, 10)
    trim_log(settings, home)
    assert Lake(home.lake).days() == [DAY]
