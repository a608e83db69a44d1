"""A day of decisions in a real log, recomputed from a real lake and real builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.clock import time_of
from feature_repo.contract.validation import Contract, Event, Item, to_arrow
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.groups.session_profile import SessionRules, touch_of, values
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.defs.assembly import build_definitions
from orchestration.defs.quality import BUDGET, PARITY_JOB
from orchestration.monitoring.parity import run_parity, served_rows
from orchestration.runtime import Runtime
from quality.checks.figures import load_figures
from serving.control.flags import Flags
from serving.control.rules import Rules
from serving.decisions.hashing import hashed
from serving.decisions.record import TOPIC, Decision, UsedRow, Versions, encode_decision
from serving.schemas.rank_response import Tier
from streaming.log import open_log
from streaming.sessions.session_fold import FoldRules, Session, profile_of
from tests.support.offline import click_group

DAY = date(2024, 6, 1)
MORNING = datetime(2024, 6, 1, 9, tzinfo=UTC)
AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
SESSIONS = 60
CAME = MORNING + timedelta(hours=2)
"""When the lake took the events in: after the last of them."""


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root, parity_sample=1.0)


@pytest.fixture
def events(home: Home, settings: Settings, clock: Callable[[], datetime]) -> list[Event]:
    contract = Contract(settings, clock)
    found: list[Event] = []
    for s in range(SESSIONS):
        for n in range(6):
            record = {
                "event_id": f"e{s}-{n}",
                "event_type": ("view", "click", "add_to_cart")[n % 3],
                "event_time": MORNING + timedelta(minutes=s, seconds=7.3 * n),
                "session_id": f"s{s}",
                "user_id": f"u{s}",
                "item_id": f"i{(s + n) % 9}",
            }
            event = contract.parse(record, "event")
            assert isinstance(event, Event)
            found.append(event)
    items = [Item(item_id=f"i{n}", categories=(f"c{n % 3}",), price=float(n)) for n in range(9)]
    lake = Lake(home.lake)
    for folder, table in (
        (lake.events_of(DAY), to_arrow("event", found, CAME)),
        (lake.folder("item"), to_arrow("item", items, MORNING)),
    ):
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "part-0.parquet")
    return found


def live(settings: Settings, home: Home, events: list[Event]) -> dict[str, UsedRow]:
    """Session rows as the stream's fold leaves them after these events, times in whole seconds."""
    from orchestration.monitoring.recompute import Folder

    facts = Folder(Lake(home.lake), settings, str)._facts
    held: dict[str, bytes] = {}
    for event in events:
        session = Session(held.get(event.session_id), FoldRules.of(settings), facts)
        session.fold(touch_of(event, settings.weights, event.consent))
        held[event.session_id] = session.encode()
    rows = {}
    for key, raw in held.items():
        profile = profile_of(raw)
        row = values(profile, SessionRules.of(settings))
        row["user_id"] = hashed(row["user_id"], settings.id_salt.get_secret_value())
        event_time = time_of(profile.last_us).replace(microsecond=0)
        rows[key] = UsedRow(msgspec.json.decode(msgspec.json.encode(row)), event_time, False)
    return rows


def build(home: Home, group: FeatureGroup, keys: list[str]) -> dict[str, dict[str, Any]]:
    """A build with one row a key; every feature null but a float, a list and the segment."""
    rows: dict[str, dict[str, Any]] = {}
    for n, key in enumerate(keys):
        row: dict[str, Any] = dict.fromkeys(group.feature_names)
        row |= {"click_rate": 1.0 + n / 7, "attr_keys": [f"category:c{n % 3}"], "attr_clicks": [n / 3]}
        if "segment" in row:
            row["segment"] = "likes:c1"
        rows[key] = row
    times = {"event_timestamp": AS_OF, "created_timestamp": AS_OF}
    table = [{group.entity.join_key: key, **row, **times} for key, row in rows.items()]
    Builds(home.features).write(group.name, AS_OF, pa.Table.from_pylist(table, schema=group.arrow_schema))
    return rows


def decide(settings: Settings, n: int, features: Mapping[str, UsedRow]) -> Decision:
    salt = settings.id_salt.get_secret_value()
    return Decision(
        request_id=f"r{n}",
        time=MORNING + timedelta(hours=2),
        user=hashed(f"u{n}", salt),
        session=hashed(f"s{n}", salt),
        query=None,
        candidates=[],
        limit=None,
        explain=False,
        features=dict(features),
        flags=Flags(),
        rules=Rules(),
        versions=Versions(None, None, ""),
        arms={},
        held_out=False,
        seed=f"r{n}",
        completed=[],
        tier=next(iter(Tier)),
        degraded=[],
        ages={},
        timings_ms={},
        items=[],
        dropped=[],
    )


@pytest.fixture
def served(home: Home, settings: Settings, events: list[Event]) -> list[dict[str, UsedRow]]:
    """What each of the sessions' decisions used, before anything is planted."""
    groups = all_groups()
    users = build(home, groups["user_profile"], [f"u{n}" for n in range(SESSIONS)])
    segments = build(home, groups["segment_profile"], ["all", "likes:c1"])
    sessions = live(settings, home, events)
    return [
        {
            "user": UsedRow(users[f"u{n}"], AS_OF, False),
            "segment": UsedRow(segments["likes:c1"], AS_OF, False),
            "session": sessions[f"s{n}"],
        }
        for n in range(SESSIONS)
    ]


def publish(settings: Settings, home: Home, served: list[dict[str, UsedRow]]) -> None:
    log = open_log(settings, home, TOPIC)
    decisions = [decide(settings, n, features) for n, features in enumerate(served)]
    other = msgspec.structs.replace(decisions[0], request_id="yesterday", time=MORNING - timedelta(days=1))
    log.publish([(d.request_id, encode_decision(d)) for d in [*decisions, other]])
    log.publish([("x", b"no decision")])
    log.close()


def test_what_was_served_equals_what_is_recomputed(
    home: Home, settings: Settings, served: list[dict[str, UsedRow]]
) -> None:
    publish(settings, home, served)
    run = run_parity(settings, home, DAY)
    assert run.report.failures == ()
    assert run.decisions == SESSIONS
    groups = ("user_profile", "segment_profile", "session_profile")
    counts = {name: (g.rows, g.unknown, g.late) for name, g in run.measured.items()}
    assert counts == dict.fromkeys(groups, (SESSIONS, 0, 0))
    assert {f.group for f in load_figures(home.quality, "parity")} == set(run.measured)


@pytest.mark.parametrize(
    ("row", "feature"),
    [("user", "click_rate"), ("session", "attr_weights")],
)
def test_a_planted_skew_of_one_percent_in_one_feature_is_caught(
    home: Home, settings: Settings, served: list[dict[str, UsedRow]], row: str, feature: str
) -> None:
    group = f"{row}_profile"
    for features in served:
        used = features[row]
        value = used.values[feature]
        skewed = [v * 1.01 for v in value] if isinstance(value, list) else value * 1.01
        features[row] = msgspec.structs.replace(used, values={**used.values, feature: skewed})
    publish(settings, home, served)
    run = run_parity(settings, home, DAY)
    assert [r.column for r in run.report.blocking_failures] == [f"{group}.{feature}"]
    figures = {f.group: f for f in load_figures(home.quality, "parity")}[group]
    assert figures.failing == (feature,)
    assert figures.values[feature]["relative_error"] == pytest.approx(0.01, rel=1e-6)


def test_the_assets_check_passes_what_is_right_and_fails_a_skew_of_one_percent(
    home: Home, settings: Settings, served: list[dict[str, UsedRow]]
) -> None:
    publish(settings, home, served)
    found = asset_check(home, settings)
    assert found.passed
    for features in served:
        rate = features["user"].values["click_rate"] * 1.01
        values = {**features["user"].values, "click_rate": rate}
        features["user"] = msgspec.structs.replace(features["user"], values=values)
    publish(settings, home, served)
    found = asset_check(home, settings)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "user_profile.click_rate" in (found.description or "")


def asset_check(home: Home, settings: Settings) -> dg.AssetCheckEvaluation:
    """The check `budget` of a run of the daily job."""
    now = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) + timedelta(days=1, hours=1)
    runtime = Runtime(settings, home, lambda: now, lambda *_: frozenset())
    job = build_definitions(runtime, (click_group(),)).resolve_job_def(PARITY_JOB)
    result = job.execute_in_process(partition_key=DAY.isoformat())
    [found] = [e for e in result.get_asset_check_evaluations() if e.check_name == BUDGET]
    return found


def test_events_that_came_after_serving_are_late_not_wrong(
    home: Home, settings: Settings, events: list[Event], served: list[dict[str, UsedRow]]
) -> None:
    some = {f"s{n}" for n in range(5)}
    without = [e for e in events if not (e.session_id in some and e.event_id.endswith("-2"))]
    early = live(settings, home, without)
    for n in range(5):
        served[n]["session"] = early[f"s{n}"]
    publish(settings, home, served)
    run = run_parity(settings, home, DAY)
    assert run.report.failures == ()
    assert run.measured["session_profile"].late == 5


@pytest.mark.parametrize(
    "clocks", [(hours, minutes) for hours in (2, 20) for minutes in (0, 5)]
)  # 20 hours ahead is the next day's file
def test_an_event_stamped_ahead_counts_as_of_when_it_came(
    home: Home,
    settings: Settings,
    events: list[Event],
    served: list[dict[str, UsedRow]],
    clocks: tuple[int, int],
) -> None:
    """Where the lake took it in later than the stream did, when it counted is not known: late, not wrong."""
    lake, rows = Lake(home.lake), served[:5]
    ahead, synced = timedelta(hours=clocks[0]), timedelta(minutes=clocks[1])
    for n in range(5):
        came = MORNING + timedelta(minutes=n, seconds=20)  # before the fourth of six events
        fields = {"event_id": f"ahead-{n}", "event_time": came, "item_id": "i1"}
        live_event = msgspec.structs.replace(events[n * 6], **fields)
        stamped = msgspec.structs.replace(live_event, event_time=came + ahead)
        folder = lake.events_of(stamped.event_time.date())
        folder.mkdir(exist_ok=True)
        pq.write_table(to_arrow("event", [stamped], came + synced), folder / f"part-{n + 1}.parquet")
        mine = sorted([*events[n * 6 : n * 6 + 6], live_event], key=lambda e: e.event_time)
        rows[n]["session"] = live(settings, home, mine)[f"s{n}"]
        assert rows[n]["session"].values["event_count"] == 7
    publish(settings, home, served)
    run = run_parity(settings, home, DAY)
    assert run.report.failures == ()
    session = run.measured["session_profile"]
    assert (session.rows, session.unknown, session.late) == (SESSIONS, 0, 5 if synced else 0)


def test_a_session_served_in_its_middle_is_recomputed_as_of_then(
    home: Home, settings: Settings, events: list[Event], served: list[dict[str, UsedRow]]
) -> None:
    half = live(settings, home, [e for e in events if int(e.event_id[-1]) < 3])
    for n, features in enumerate(served):
        features["session"] = half[f"s{n}"]
    publish(settings, home, served)
    assert run_parity(settings, home, DAY).report.failures == ()


def test_rows_whose_build_is_gone_are_unknown(
    home: Home, settings: Settings, served: list[dict[str, UsedRow]]
) -> None:
    for features in served:
        features["user"] = msgspec.structs.replace(features["user"], event_time=AS_OF - timedelta(days=3))
    publish(settings, home, served)
    run = run_parity(settings, home, DAY)
    assert run.measured["user_profile"].unknown == SESSIONS
    assert [r.name for r in run.report.failures] == ["expect_few_unknown_rows"]


def test_a_copied_segment_row_is_not_compared_and_no_rows_warn(home: Home, settings: Settings) -> None:
    row = UsedRow({}, AS_OF, True)
    assert list(served_rows(decide(settings, 1, {"segment": row}))) == []
    run = run_parity(settings, home, DAY)
    assert run.decisions == 0
    assert [r.name for r in run.report.failures] == ["expect_served_rows"]
