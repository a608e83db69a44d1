"""Dagster's daemon on our definitions: a backfill of two days through the real launcher, and freshness."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.defs.assembly import build_definitions
from orchestration.defs.keys import features_key
from orchestration.processes.dagster_home import open_instance
from orchestration.runtime import Runtime
from tests.support.dagster_daemon import Until, running_daemon
from tests.support.offline import day_events, write_events

EVERY_SECOND = {"FRESHNESS_DAEMON_INTERVAL_SECONDS": "1"}
GROUP = all_groups()["item_neighbours"]

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Function `AssetSelection.sources`:DeprecationWarning"
    ),  # Dagster's own
]


@pytest.fixture
def days(home: Home) -> list[date]:
    today = datetime.now(UTC).date()
    found = [today - timedelta(days=n) for n in (2, 1)]
    for day in found:
        write_events(Lake(home.lake), day, day_events(day, 20))
    return found


@pytest.fixture
def daemon(home: Home, days: list[date]) -> Iterator[Until]:
    with running_daemon(home, EVERY_SECOND) as until:
        yield until


def test_a_backfill_runs_through_the_daemon_and_freshness_is_evaluated(
    settings: Settings, home: Home, days: list[date], daemon: Until
) -> None:
    runtime = Runtime.of(settings)
    graph = build_definitions(runtime).resolve_asset_graph()
    key = features_key(GROUP)
    with open_instance(home) as instance:
        instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                backfill_id="two-days",
                asset_graph=graph,
                partition_names=[day.isoformat() for day in days],
                asset_selection=[key],
                backfill_timestamp=time.time(),
                tags={},
                dynamic_partitions_store=instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            )
        )

        def over() -> bool:
            found = instance.get_backfill("two-days")
            assert found is not None
            assert found.status not in (BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED)
            return found.status == BulkActionStatus.COMPLETED_SUCCESS

        daemon(over)
        assert instance.get_materialized_partitions(key) == {day.isoformat() for day in days}
        runs = [r for r in instance.get_runs() if r.tags.get("dagster/backfill") == "two-days"]
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert len(Builds(home.features).history(GROUP.name)) == len(days)
        daemon(lambda: _freshness(instance) == FreshnessState.PASS)


def _freshness(instance: dg.DagsterInstance) -> FreshnessState | None:
    key = features_key(GROUP)
    record = instance.event_log_storage.get_freshness_state_records([key]).get(key)
    return None if record is None else record.freshness_state
