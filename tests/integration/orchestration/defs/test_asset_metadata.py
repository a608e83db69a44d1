"""What Dagster shows of each asset: owners, tags, kinds, columns and their lineage, observations, links."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from feature_repo.groups import stream_groups
from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.services import published
from feature_repo.settings import Settings, load_settings
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import CHAIN
from orchestration.defs.keys import API, BLEND, EVENT_LOG, EVENTS, features_key, service_key, view_key
from orchestration.defs.observations import observation_sensor
from orchestration.lineage.group_lineage import group_sources, kept_sources
from orchestration.runtime import Runtime
from streaming.sessions.heartbeat import Counts, Heartbeat, write_heartbeats
from tests.support.offline import click_group, day_events, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
KEY, VIEW = features_key("clicks"), dg.AssetKey(["feast", "clicks"])
# Kinds that Dagster draws an icon for, of those used here.
DRAWN = {"duckdb", "parquet", "file", "redis", "kafka", "source", "sqlite", "python", "scipy", "view"}


@pytest.fixture
def runtime(settings: Settings, home: Home) -> Runtime:
    found = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    write_events(found.lake, DAY, day_events(DAY, 40))
    return found


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def lineage_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, set[str]]:
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    found = event.asset_materialization.metadata["dagster/column_lineage"].value
    assert isinstance(found, dg.TableColumnLineage)
    return {
        name: {f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps}
        for name, deps in found.deps_by_column.items()
    }


def test_a_run_attaches_lineage_from_the_log_to_the_view(
    runtime: Runtime, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(runtime, (click_group(),)).resolve_job_def(CHAIN)
    assert job.execute_in_process(instance=instance, partition_key=DAY.isoformat()).success
    features, view, events = (lineage_of(instance, key) for key in (KEY, VIEW, EVENTS))
    assert features == {
        "user_id": {"lake/events.user_id"},
        "clicks": {"lake/events.event_type", "lake/events.user_id"},
        "last_item": {"lake/events.item_id"},
        "last_event_time": {"lake/events.event_time"},
    }
    assert view["clicks"] == {"features/clicks.clicks"}
    assert view["event_timestamp"] == {"features/clicks.event_timestamp"}
    assert events["item_id"] == {"log/event_log.item_id"}
    assert "ingested_at" not in events
    # An unchanged build keeps it: the UI shows that of the latest materialization.
    assert job.execute_in_process(instance=instance, partition_key=DAY.isoformat()).success
    assert lineage_of(instance, KEY) == features


def test_every_asset_has_owners_tags_and_a_drawn_kind(runtime: Runtime) -> None:
    specs = list(build_definitions(runtime).resolve_all_asset_specs())
    assert {EVENT_LOG, API, BLEND, *(view_key(g) for g in stream_groups().values())} <= {s.key for s in specs}
    for spec in specs:
        assert spec.owners == ["team:features"], spec.key
        assert spec.kinds & DRAWN, spec.key
        assert "headrace/layer" in spec.tags, spec.key
        assert spec.description, spec.key


def test_every_column_is_described(runtime: Runtime) -> None:
    tables = {
        spec.key: spec.metadata["dagster/column_schema"]
        for spec in build_definitions(runtime).resolve_all_asset_specs()
        if "dagster/column_schema" in spec.metadata
    }
    assert {key.path[0] for key in tables} == {"log", "lake", "features", "feast"}
    for key, schema in tables.items():
        assert [c.name for c in schema.columns if not c.description] == [], key
    for group in stream_groups().values():
        names = [column.name for column in tables[view_key(group)].columns]
        assert names == group.arrow_schema.names


def test_services_and_serving_are_downstream_of_the_views(runtime: Runtime) -> None:
    specs = {spec.key: spec for spec in build_definitions(runtime).resolve_all_asset_specs()}
    for service in published():
        spec = specs[service_key(service.name)]
        deps = {dep.asset_key for dep in spec.deps}
        assert deps == {dg.AssetKey(["feast", view.view]) for view in service.views}
        assert deps <= set(specs)
    assert {dep.asset_key for dep in specs[API].deps} == {service_key(published()[-1].name), BLEND}


def test_links_follow_the_settings(settings: Settings, home: Home) -> None:
    given = {
        "docs_url": "https://d.example",
        "api_url": "https://a.example/",
        "feast_url": "https://f.example",
    }
    runtime = Runtime(settings.model_copy(update=given), home, lambda: NOW)
    specs = {spec.key: spec for spec in build_definitions(runtime).resolve_all_asset_specs()}
    assert specs[API].metadata["api_docs"].value == "https://a.example/docs"
    assert specs[EVENTS].metadata["data_docs"].value == "https://d.example/"
    assert specs[EVENTS].metadata["drift"].value == "https://d.example/drift/index.html"
    view = specs[view_key(next(iter(stream_groups().values())))]
    assert str(view.metadata["feast_ui"].value).startswith("https://f.example/p/headrace/feature-view/")


@pytest.mark.parametrize("given", ["personalization", "a@b", "team:", "team:a, me"])
def test_a_bad_owner_is_named(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ASSET_OWNERS", given)
    with pytest.raises(Exception, match=r"HEADRACE_ASSET_OWNERS.*write team:NAME or an email address"):
        load_settings()


def test_owners_are_those_of_the_settings(settings: Settings, home: Home) -> None:
    given = settings.model_copy(update={"asset_owners": "team:shop, ann@shop.example"})
    specs = build_definitions(Runtime(given, home, lambda: NOW)).resolve_all_asset_specs()
    assert {tuple(spec.owners) for spec in specs} == {("team:shop", "ann@shop.example")}


def observe(runtime: Runtime, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    sensor = observation_sensor(runtime)
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        found = sensor(context)
    assert isinstance(found, dg.SensorResult)
    return found


def test_what_dagster_does_not_make_reports_observations(
    runtime: Runtime, instance: dg.DagsterInstance
) -> None:
    store = open_store(runtime.settings, runtime.home)
    newest = NOW - timedelta(seconds=90)
    beats = [
        Heartbeat(0, newest, NOW - timedelta(seconds=2), counts=Counts(written=3), sessions=2),
        Heartbeat(1, None, NOW - timedelta(seconds=1), behind_s=5.0, sessions=1),
    ]
    write_heartbeats(store, beats)
    first = observe(runtime, instance, None)
    found = {event.asset_key: event.metadata for event in first.asset_events}
    assert set(found) == {EVENT_LOG, *(view_key(group) for group in stream_groups().values())}
    assert found[EVENT_LOG]["dagster/row_count"].value == 40
    assert found[EVENT_LOG]["newest_event"].value == "2024-05-30T23:24:00+00:00"
    stream = found[view_key(next(iter(stream_groups().values())))]
    assert stream["lag_s"].value == 6.0
    assert stream["live_sessions"].value == 3
    assert stream["rows_written"].value == 3
    assert stream["newest_event_age_s"].value == 90.0
    assert stream["status"].value == "running"
    # Nothing changed: no event is stored again, no matter how often the sensor looks.
    again = observe(runtime, instance, first.cursor)
    assert (list(again.asset_events), again.cursor) == ([], first.cursor)
    write_heartbeats(store, [Heartbeat(1, NOW, NOW, sessions=9)])
    store.close()
    assert len(observe(runtime, instance, first.cursor).asset_events) == len(stream_groups())


def test_a_log_that_cannot_be_read_hides_no_other_observation(
    runtime: Runtime, instance: dg.DagsterInstance
) -> None:
    runtime.home.log.write_text("a file in the place of the folder")
    keys = {event.asset_key for event in observe(runtime, instance, None).asset_events}
    assert keys == {view_key(group) for group in stream_groups().values()}


def test_lineage_is_derived_once_and_again_when_what_it_came_from_changed(
    settings: Settings, home: Home
) -> None:
    group = click_group()
    found = kept_sources(group, settings, home)
    assert found == group_sources(group, settings)
    path = home.quality / "lineage" / "clicks.json"
    written = path.stat().st_mtime_ns
    assert kept_sources(group, settings, home) == found
    assert path.stat().st_mtime_ns == written
    path.write_text("cut sh")
    assert kept_sources(group, settings, home) == found
    other = settings.model_copy(update={"affinity_top_k": settings.affinity_top_k + 1})
    written = path.stat().st_mtime_ns
    assert kept_sources(group, other, home) == found
    assert path.stat().st_mtime_ns != written
