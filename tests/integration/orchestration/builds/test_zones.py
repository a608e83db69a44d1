"""The machine's time zone changes between two runs, or between two processes: nothing else may."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Event, to_arrow
from feature_repo.feast_store import apply, feature_store
from feature_repo.group import CREATED_TIMESTAMP, EVENT_TIMESTAMP
from feature_repo.groups import all_groups
from feature_repo.groups.session_profile import GROUP as SESSION
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.offline.offline_store import _utc as utc
from feature_repo.online import OnlineRow, online_path, open_store
from feature_repo.online.sqlite_store import SqliteStore
from feature_repo.settings import Settings
from orchestration.builds.build import build_group
from orchestration.materialize.materialize import materialize_current
from tests.conftest import ZONES, MachineZone

USERS = all_groups()["user_profile"]
DAY = date(2024, 5, 30)
T0 = datetime(2024, 5, 30, 12, 0, 0, 123_456, tzinfo=UTC)
HOUR = timedelta(hours=1)
Pair = tuple[str, str]
MOVES = list(permutations(ZONES, 2))


def written(store: SqliteStore, count: int, at: datetime) -> int:
    return store.write(SESSION, [OnlineRow("s", {"event_count": count}, at)])


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_a_row_keeps_its_time_when_the_zone_changes(
    home: Home, machine_zone: MachineZone, before: str, after: str
) -> None:
    machine_zone.set(before)
    store = SqliteStore(online_path(home))
    written(store, 1, T0)
    machine_zone.set(after)
    [row] = store.read([(SESSION, "s")])
    assert row is not None
    assert row.event_time == T0
    assert written(store, 0, T0 - timedelta(microseconds=1)) == 0
    assert written(store, 2, T0 + timedelta(microseconds=1)) == 1
    store.close()


def test_a_file_of_a_version_without_the_seconds_is_read_and_written(
    home: Home, machine_zone: MachineZone
) -> None:
    machine_zone.set("America/Los_Angeles")
    store = SqliteStore(online_path(home))
    written(store, 1, T0)
    store.close()
    with sqlite3.connect(online_path(home)) as old:
        old.execute("ALTER TABLE headrace_times DROP COLUMN seconds")
    old.close()
    store = SqliteStore(online_path(home))
    [row] = store.read([(SESSION, "s")])
    assert row is not None
    assert row.event_time == T0
    assert written(store, 2, T0 + HOUR) == 1
    machine_zone.set("UTC")
    assert written(store, 3, T0 + HOUR + timedelta(microseconds=1)) == 1
    store.close()


@pytest.mark.usefixtures("zone")
def test_what_feast_wrote_last_is_read_with_its_time(home: Home, settings: Settings) -> None:
    apply(settings, home)
    store = open_store(settings, home)
    store.write(SESSION, [OnlineRow("s", {"event_count": 1}, T0)])
    later = pd.DataFrame({"session_id": ["s"], EVENT_TIMESTAMP: [T0 + HOUR], CREATED_TIMESTAMP: [T0 + HOUR]})
    for feature in SESSION.features:
        value: Any = [] if feature.dtype.value.endswith("s") else None
        later[feature.name] = pd.Series([7 if feature.name == "event_count" else value], dtype=object)
    feature_store(settings, home).write_to_online_store(SESSION.view_name, later)
    [row] = store.read([(SESSION, "s")])
    assert row is not None
    assert (row.values["event_count"], row.event_time) == (7, (T0 + HOUR).replace(microsecond=0))
    store.close()


def test_a_bound_without_a_zone_is_utc(machine_zone: MachineZone) -> None:
    machine_zone.set("America/Los_Angeles")
    assert utc(datetime(2024, 6, 1)) == datetime(2024, 6, 1, tzinfo=UTC)  # noqa: DTZ001 - as Feast may send


def lake_of(home: Home) -> None:
    """Clicks in every hour of two days: in some zone each lies on another day."""
    for day in (DAY, DAY + timedelta(days=1)):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        events = [
            Event(
                event_id=f"{day}-{n}",
                event_type=kind,
                event_time=start + HOUR * n,
                session_id=f"s{n % 5}",
                user_id=f"u{n % 3}",
                item_id=f"i{n % 4}",
            )
            for n, kind in enumerate(["view", "click", "purchase"] * 8)
        ]
        folder = Lake(home.lake).events_of(day)
        folder.mkdir(parents=True)
        pq.write_table(to_arrow("event", events, start + timedelta(days=2)), folder / "part-0.parquet")


def test_builds_are_equal_and_the_store_is_fresh_wherever_they_were_made(
    home: Home, settings: Settings, machine_zone: MachineZone
) -> None:
    """A build made in California counts the same events, and one made later elsewhere is newer."""
    lake_of(home)
    as_of = datetime(2024, 5, 31, 3, tzinfo=UTC)
    made = []
    for n, zone in enumerate(("America/Los_Angeles", "UTC", "Asia/Kathmandu", "UTC")):
        machine_zone.set(zone)
        build = build_group(USERS, settings, home, as_of + n * HOUR, lambda: T0)
        assert materialize_current(USERS, build, settings, home) == 3
        store = open_store(settings, home)
        [row] = store.read([(USERS, "u1")])
        store.close()
        assert row is not None
        assert row.event_time == as_of + n * HOUR
    for zone in ZONES:
        machine_zone.set(zone)
        path = Builds(home.features).path("user_profile", as_of)
        path.unlink(missing_ok=True)
        rows = pq.read_table(build_group(USERS, settings, home, as_of, lambda: T0).path)
        made.append(rows.drop_columns(CREATED_TIMESTAMP).sort_by("user_id").to_pylist())
    assert made[0] == made[1] == made[2]
    # 24 hours of the first day and three of the second: every third is a view, a click, a purchase.
    assert sum(row["click_count_7d"] for row in made[0]) == 9


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "UTC"])
def test_commands_of_two_zones_work_on_one_home(home: Home, machine_zone: MachineZone, zone: str) -> None:
    """`headrace materialize` by two processes, the first of which is not in UTC."""
    lake_of(home)
    settings = Settings(home=home.root)
    builds = Builds(home.features)
    for n, of in enumerate((zone, "UTC")):
        machine_zone.set(of)
        as_of = datetime(2024, 5, 31, 3, tzinfo=UTC) + n * HOUR
        builds.promote("user_profile", build_group(USERS, settings, home, as_of))
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from orchestration.cli import main; main()",
                "materialize",
                "user_profile",
            ],
            env={"PATH": "/usr/bin:/bin", "TZ": of, "HEADRACE_HOME": str(home.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        store = open_store(settings, home)
        [row] = store.read([(USERS, "u1")])
        store.close()
        assert row is not None
        assert row.event_time == as_of
