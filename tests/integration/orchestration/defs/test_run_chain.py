"""The Dagster chain in process: real runs, real DuckDB, real SQLite store, real checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from feature_repo.errors import BuildError
from feature_repo.group import Expectation, FeatureGroup
from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.settings import Settings
from orchestration.builds.build import end_of
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import CHAIN, LAKE
from orchestration.defs.keys import BLEND, EVENTS, REGISTRY, features_key, view_key
from orchestration.defs.run_chain import run_chain
from orchestration.defs.sensors import RANGE_END, RANGE_START
from orchestration.runtime import Runtime
from tests.support.offline import click_group, day_events, rows_of, three_days

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def runtime(settings: Settings, home: Home) -> Runtime:
    return three_days(settings, home, DAY, NOW)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def run(runtime: Runtime, instance: dg.DagsterInstance) -> Run:
    def execute(
        day: date | None, *groups: FeatureGroup, job: str = CHAIN, **more: Any
    ) -> dg.ExecuteInProcessResult:
        found = build_definitions(runtime, groups or (click_group(),)).resolve_job_def(job)
        partition = {} if day is None else {"partition_key": day.isoformat()}
        return found.execute_in_process(instance=instance, raise_on_error=False, **partition, **more)

    return execute


def materialized(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> list[dg.AssetMaterialization]:
    return [
        event.materialization
        for event in result.all_events
        if event.event_type_value == "ASSET_MATERIALIZATION" and event.asset_key == key
    ]


def figure(found: dg.AssetMaterialization, name: str) -> Any:
    return found.metadata[name].value


def online(runtime: Runtime, group: FeatureGroup, user: str) -> Any:
    store = open_store(runtime.settings, runtime.home)
    try:
        return store.read([(group, user)])[0]
    finally:
        store.close()


def test_events_become_features_become_online_values(run: Run, runtime: Runtime) -> None:
    group = click_group()
    result = run(DAY, group)
    assert result.success
    expected = Counter(e.user_id for e in day_events(DAY, 40) if e.event_type == "click")
    for user, clicks in expected.items():
        row = online(runtime, group, user)
        assert row.values["clicks"] == clicks
        assert row.event_time == end_of(DAY)
    assert runtime.builds.current("clicks").as_of == end_of(DAY)


def test_every_materialization_says_rows_bounds_preview_and_duration(run: Run) -> None:
    result = run(DAY)
    [events] = materialized(result, EVENTS)
    assert figure(events, "dagster/row_count") == 40
    assert figure(events, "first") == "2024-05-30T00:00:00+00:00"
    assert figure(events, "last") == "2024-05-30T23:24:00+00:00"
    assert figure(events, "preview").startswith("| event_id | event_type |")
    [features] = materialized(result, features_key("clicks"))
    assert figure(features, "dagster/row_count") == 5
    assert figure(features, "as_of") == figure(features, "first") == "2024-05-31T00:00:00+00:00"
    assert "| user_id | clicks |" in figure(features, "preview")
    assert figure(features, "seconds") > 0
    [view] = materialized(result, view_key(click_group()))
    assert figure(view, "written") == 5
    assert figure(view, "status") == "online"
    [log] = materialized(result, dg.AssetKey(["models", "blend"]))
    assert figure(log, "serves") == "base"
    assert "a fit needs 300" in figure(log, "decision")


def test_a_failing_blocking_check_keeps_the_last_good_values(run: Run, runtime: Runtime) -> None:
    good = click_group()
    assert run(DAY, good).success
    before = online(runtime, good, "u1")
    # The same group, with an expectation that the next day breaks: at most three users.
    strict = click_group(expectations=(Expectation("row_count_between", minimum=1, maximum=3),))
    result = run(DAY + timedelta(days=1), strict)
    assert not result.success
    assert materialized(result, features_key("clicks"))
    assert not materialized(result, view_key(strict))
    assert online(runtime, good, "u1") == before
    assert runtime.builds.current("clicks").as_of == end_of(DAY)
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert [(e.check_name, e.severity.value) for e in failed] == [("contract", "ERROR")]
    assert "clicks" in (failed[0].description or "")


def test_a_failing_advisory_check_blocks_nothing(run: Run, runtime: Runtime) -> None:
    advice = Expectation("row_count_between", minimum=1, maximum=3, severity="warn")
    group = click_group(expectations=(advice,))
    result = run(DAY, group)
    assert result.success
    assert online(runtime, group, "u1") is not None
    found = [e for e in result.get_asset_check_evaluations() if e.asset_key == features_key(group)]
    failed = [e for e in found if not e.passed]
    assert [(e.check_name, e.severity.value) for e in failed] == [("advice", "WARN")]


def test_a_closed_gate_is_a_warning_on_the_blend(run: Run) -> None:
    result = run(DAY)
    assert result.success
    [gate] = [e for e in result.get_asset_check_evaluations() if e.asset_key == BLEND]
    assert (gate.check_name, gate.passed, gate.severity) == ("gate", False, dg.AssetCheckSeverity.WARN)
    assert "a fit needs 300" in (gate.description or "")
    assert gate.metadata["serves"].value == "base"


def test_a_days_check_results_stay_that_days(run: Run, instance: dg.DagsterInstance) -> None:
    group, days = click_group(), [DAY, DAY + timedelta(days=1)]
    for day in days:
        evaluations = run(day, group).get_asset_check_evaluations()
        assert {e.partition for e in evaluations if e.asset_key == features_key(group)} == {day.isoformat()}
    # A result of one day neither hides nor replaces that of another.
    for name in ("contract", "advice", "drift"):
        history = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(features_key(group), name), limit=5
        )
        assert [record.partition for record in history] == [day.isoformat() for day in reversed(days)]


def test_the_registry_is_applied_once(run: Run) -> None:
    applied = [materialized(run(DAY), REGISTRY)[0] for _ in range(2)]
    assert [figure(found, "unchanged") for found in applied] == [False, True]


def test_a_backfilled_day_stays_history(run: Run, runtime: Runtime) -> None:
    group = click_group()
    assert run(DAY + timedelta(days=1), group).success
    before = online(runtime, group, "u1")
    result = run(DAY, group)
    assert result.success
    [view] = materialized(result, view_key(group))
    assert figure(view, "status") == "kept as history: a newer build is online"
    assert online(runtime, group, "u1") == before
    assert [read.parent.name for read in runtime.builds.history("clicks")] == [
        "as_of=20240531T000000Z",
        "as_of=20240601T000000Z",
    ]


def test_a_range_of_days_is_recorded_in_one_run(run: Run) -> None:
    tags = {RANGE_START: DAY.isoformat(), RANGE_END: (DAY + timedelta(days=2)).isoformat()}
    result = run(None, job=LAKE, tags=tags)
    assert result.success
    found = materialized(result, EVENTS)
    assert [(m.partition, figure(m, "dagster/row_count")) for m in found] == [
        ("2024-05-30", 40),
        ("2024-05-31", 40),
        ("2024-06-01", 20),
    ]


def test_one_group_file_suffices(runtime: Runtime) -> None:
    found = build_definitions(runtime, (click_group("one"), click_group("two")))
    keys = {key.to_user_string() for key in found.resolve_asset_graph().get_all_asset_keys()}
    assert {"features/one", "features/two", "feast/one", "feast/two", "feast/session_profile"} <= keys


def test_lineage_runs_from_the_log_to_the_view(runtime: Runtime) -> None:
    graph = build_definitions(runtime, (click_group(),)).resolve_asset_graph()
    above = {k.to_user_string() for k in graph.get_ancestor_asset_keys(view_key(click_group()))}
    assert above == {
        "log/event_log",
        "lake/events",
        "lake/items",
        "lake/users",
        "features/clicks",
        "feast/registry",
    }


def test_the_running_day_is_built_as_of_now(run: Run, runtime: Runtime) -> None:
    assert run(NOW.date()).success
    [path] = runtime.builds.history("clicks")
    assert path.parent.name == "as_of=20240601T120000Z"
    assert {row["event_timestamp"] for row in rows_of(path).values()} == {NOW}


def test_run_chain_names_what_failed(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime.lake.events_of(DAY) / "part-9.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(BuildError, match=r"chain of 2024-05-30: lake__events: .*part-9\.parquet"):
        run_chain(settings, [DAY], runtime, [click_group()])


def test_run_chain_says_which_check_found_what(settings: Settings, runtime: Runtime) -> None:
    strict = click_group(expectations=(Expectation("row_count_between", minimum=100),))
    with pytest.raises(
        BuildError, match=r"check of features/clicks: clicks: .*5 rows.*; online rows are unchanged"
    ):
        run_chain(settings, [DAY], runtime, [strict])


def test_run_chain_refuses_days_beyond_the_partitions(settings: Settings, runtime: Runtime) -> None:
    with pytest.raises(BuildError, match=r"2020-01-01: no partition; they run from 2024-05-23 .* to today"):
        run_chain(settings, [date(2020, 1, 1), DAY], runtime)


def test_run_chain_of_an_empty_lake_says_how_to_fill_it(settings: Settings, home: Home) -> None:
    empty = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    with pytest.raises(BuildError, match="holds no events; fill it with `headrace ingest PATH`"):
        run_chain(settings, runtime=empty)


def test_run_chain_builds_every_declared_group_of_the_newest_day(
    settings: Settings, runtime: Runtime
) -> None:
    result = run_chain(settings, runtime=runtime)
    assert result.days == (NOW.date(),)
    assert result.rows["user_profile"] == 5
    assert {"user_profile", "segment_profile", "item_profile", "item_neighbours"} <= result.rows.keys()
    assert result.seconds > 0
