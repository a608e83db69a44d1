"""Gate, drift and parity where they run: in Dagster, in process, on a lake of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import msgspec
import pytest

from feature_repo.contract.event_types import register
from feature_repo.group import Expectation, FeatureGroup
from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.online.rows import OnlineRow
from feature_repo.settings import Settings
from orchestration.builds.build import build_group, build_of_day, end_of
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import CHAIN
from orchestration.defs.keys import EVENTS, features_key
from orchestration.defs.quality import BUDGET, DRIFT, PARITY_JOB, READ_BACK
from orchestration.monitoring.drift import as_of_of, check_drift, reference_of
from orchestration.monitoring.status import features_section
from orchestration.runtime import Runtime
from quality.checks.figures import load_figures
from quality.checks.online_sample import check_online
from quality.checks.proposals import Accepted, _write
from quality.checks.suites import Rule
from quality.gate.build_gate import Gate
from tests.support.offline import click_group, day_events, three_days, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def runtime(settings: Settings, home: Home) -> Runtime:
    return three_days(settings, home, DAY, NOW)


@pytest.fixture
def run(runtime: Runtime) -> Iterator[Run]:
    with dg.DagsterInstance.ephemeral() as instance:

        def execute(day: date, *groups: FeatureGroup, job: str = CHAIN) -> dg.ExecuteInProcessResult:
            found = build_definitions(runtime, groups or (click_group(),)).resolve_job_def(job)
            return found.execute_in_process(
                instance=instance, raise_on_error=False, partition_key=day.isoformat()
            )

        yield execute


def evaluation(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    """The check of that name on something else than the lake's events."""
    [found] = [
        e for e in result.get_asset_check_evaluations() if e.check_name == name and e.asset_key != EVENTS
    ]
    return found


def test_status_says_which_groups_are_held_back(run: Run, runtime: Runtime) -> None:
    before = features_section(runtime.settings, runtime.home)
    assert (before.healthy, before.note) == (
        True,
        "no group was checked yet: `headrace build` builds and checks them",
    )
    assert run(DAY).success
    good = features_section(runtime.settings, runtime.home)
    assert [row[:3] for row in good.rows] == [("clicks", "good", "2024-05-31T00:00+00:00")]
    assert not run(
        DAY + timedelta(days=1), click_group(expectations=(Expectation("row_count_between", minimum=1000),))
    ).success
    held = features_section(runtime.settings, runtime.home)
    assert (held.healthy, held.note) == (False, "held back: clicks; the last good build stays online")
    assert held.rows[0][1] == "blocked"
    assert "5 rows; wanted ≥ 1,000 rows" in held.rows[0][3]


def test_the_gate_follows_the_chain(run: Run, runtime: Runtime) -> None:
    gate = Gate(runtime.home.quality, runtime.clock)
    assert run(DAY).success
    assert gate.state("clicks").open
    broken = click_group(expectations=(Expectation("row_count_between", minimum=1000),))
    assert not run(DAY + timedelta(days=1), broken).success
    state = gate.state("clicks")
    assert state.good is not None
    assert state.good.as_of == end_of(DAY)
    assert "5 rows; wanted ≥ 1,000 rows" in state.blocked[0].reasons[0]
    assert state.blocked[0].docs.endswith("clicks.html")
    assert gate.status()[0].state == "blocked"


def test_accepted_bounds_are_checked_in_the_chain(run: Run, runtime: Runtime) -> None:
    path = runtime.home.quality / "accepted" / "clicks.json"
    _write(path, Accepted("clicks", NOW, (Rule("between", ("clicks",), maximum=0, severity="warn"),)))
    result = run(DAY)
    assert result.success
    assert "clicks: clicks: 5 of 5 rows outside" in (evaluation(result, "advice").description or "")


def test_what_was_materialized_is_read_back_and_a_change_online_is_seen(run: Run, runtime: Runtime) -> None:
    group = click_group()
    assert evaluation(run(DAY), READ_BACK).passed
    store = open_store(runtime.settings, runtime.home)
    [row] = store.read([(group, "u1")])
    assert row is not None
    store.write(group, [OnlineRow("u1", {**row.values, "clicks": -1}, row.event_time)])
    store.close()
    build = runtime.builds.current(group.name)
    assert build is not None
    store = open_store(runtime.settings, runtime.home)
    report = check_online(group, build.path, store)
    store.close()
    assert [r.column for r in report.blocking_failures] == ["clicks"]
    assert "'online -1, offline" in report.failures[0].message


def test_types_registered_after_the_settings_were_read_are_known(run: Run, runtime: Runtime) -> None:
    events = day_events(DAY, 40)
    odd = msgspec.structs.replace(events[1], event_type="bookmark")
    write_events(runtime.lake, DAY, [odd, *events[2:]])
    refused = run(DAY)
    assert not refused.success
    register(runtime.home.root, {"bookmark": 2.0})
    assert run(DAY).success


def test_drift_has_nothing_to_compare_on_the_first_day(run: Run) -> None:
    found = evaluation(run(DAY), DRIFT)
    assert found.passed
    assert found.description == "no build of the previous week to compare with"


def test_drift_is_measured_kept_and_plotted_on_the_newest_day(run: Run, runtime: Runtime) -> None:
    assert run(DAY).success
    result = run(DAY + timedelta(days=2))
    assert result.success
    found = evaluation(result, DRIFT)
    assert found.asset_key == features_key("clicks")
    assert "null_share_near_reference" in str(found.metadata["results"].value)
    assert "data_docs" in found.metadata
    [figures] = load_figures(runtime.home.quality, "drift")
    assert (figures.group, set(figures.values)) == ("clicks", set(click_group().feature_names))
    assert list((runtime.home.docs / "drift" / "clicks").glob("*/index.html"))


def test_the_reference_is_the_last_good_build_of_each_of_the_seven_days_before(runtime: Runtime) -> None:
    group = click_group()
    times = [end_of(DAY) - timedelta(days=n) for n in range(10)]
    times += [end_of(DAY) - timedelta(days=2, hours=-1), end_of(DAY) - timedelta(hours=3)]
    for as_of in times:
        build_group(group, runtime.settings, runtime.home, as_of, runtime.clock)
    build = build_of_day(runtime.builds, group, DAY)
    assert build is not None
    found = [as_of_of(p) for p in reference_of(runtime.home, runtime.settings, group, build)]
    # The build of an hour later on the second day back stands for that day; the same day's does not count.
    wanted = [end_of(DAY) - timedelta(days=n) for n in range(7, 0, -1)]
    wanted[5] += timedelta(hours=1)
    assert found == wanted


def test_without_earlier_builds_there_is_no_drift_report(runtime: Runtime) -> None:
    build = build_group(click_group(), runtime.settings, runtime.home, end_of(DAY), runtime.clock)
    assert check_drift(runtime.settings, runtime.home, click_group(), build) is None


def test_parity_of_a_day_without_decisions_warns(run: Run) -> None:
    result = run(DAY, job=PARITY_JOB)
    assert result.success
    found = evaluation(result, BUDGET)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "table: 0 served rows sampled; wanted at least 1"


def test_the_chain_leaves_parity_to_its_own_job(run: Run) -> None:
    names = {e.check_name for e in run(DAY).get_asset_check_evaluations()}
    assert DRIFT in names
    assert BUDGET not in names


def test_a_rerun_that_fails_leaves_what_passed_in_place(run: Run, runtime: Runtime) -> None:
    good = click_group()
    assert run(DAY, good).success
    current = runtime.builds.current("clicks")
    assert current is not None
    before = current.path.read_bytes()
    # A late event changes the day; its rebuild breaks what is expected of it.
    write_events(runtime.lake, DAY, day_events(DAY, 3, offset=9_000), "part-1")
    strict = click_group(expectations=(Expectation("row_count_between", minimum=1, maximum=3),))
    for _ in range(2):
        assert not run(DAY, strict).success
        assert current.path.read_bytes() == before
        assert runtime.builds.history("clicks") == [current.path]
        assert (runtime.builds.folder("clicks") / "blocked.parquet").exists()
    state = Gate(runtime.home.quality, runtime.clock).state("clicks")
    assert state.good is not None
    assert (state.good.as_of, len(state.blocked)) == (current.as_of, 1)
    # What never passed is no history at all; a rerun repairs.
    following = DAY + timedelta(days=1)
    assert not run(following, strict).success
    assert runtime.builds.history("clicks") == [current.path]
    assert run(DAY, good).success
    assert run(following, good).success
    assert current.path.read_bytes() != before
    assert len(runtime.builds.history("clicks")) == 2
    assert Gate(runtime.home.quality, runtime.clock).state("clicks").open
