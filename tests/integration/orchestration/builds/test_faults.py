"""Days that come twice, in halves or late; empty partitions; a build killed; a disk that is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pytest

from feature_repo.contract.validation import Event, encode
from feature_repo.group import BatchParams, LakeTables
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.builds.build import as_of_day, build_group, end_of, read_build
from orchestration.builds.lake_sync import sync_lake
from streaming.ingest.files import ingest
from tests.support.offline import click_group, count_clicks, day_events, rows_of, write_events
from tests.support.stream_process import until

ROOT = Path(__file__).resolve().parents[4]
DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
Counts = dict[str, int]


def clicks(events: list[Event]) -> Counts:
    return dict(Counter(e.user_id or "" for e in events if e.event_type == "click"))


@pytest.fixture
def arrive(settings: Settings, tmp_path: Path) -> Callable[[list[Event]], None]:
    """Events through the door, as a file."""

    def send(events: list[Event]) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(b"\n".join(encode(e) for e in events))
        ingest([path], "headrace", settings)

    return send


@pytest.fixture
def built(settings: Settings, home: Home) -> Callable[[], Counts]:
    def build() -> Counts:
        sync_lake(settings, home)
        found = build_group(click_group(), settings, home, end_of(DAY), lambda: NOW)
        return {user: row["clicks"] for user, row in rows_of(found.path).items()}

    return build


Arrive = Callable[[list[Event]], None]
Built = Callable[[], Counts]


def test_a_day_that_arrives_twice_counts_once(arrive: Arrive, built: Built) -> None:
    events = day_events(DAY, 30)
    arrive(events)
    once = built()
    arrive(events)
    assert built() == once == clicks(events)


def test_a_day_in_halves_is_a_whole_day(arrive: Arrive, built: Built) -> None:
    events = day_events(DAY, 30)
    arrive(events[:13])
    assert built() == clicks(events[:13])
    arrive(events[10:])
    assert built() == clicks(events)


def test_a_day_three_days_late_repairs_its_history_and_the_days_after(
    arrive: Arrive, built: Built, settings: Settings, home: Home
) -> None:
    newest = DAY + timedelta(days=3)
    later = [e for e in day_events(newest, 10) if e.event_time < NOW]

    def of_newest() -> Counts:
        found = build_group(click_group(), settings, home, as_of_day(newest, NOW), lambda: NOW)
        return {user: row["clicks"] for user, row in rows_of(found.path).items()}

    arrive(later)
    assert of_newest() == clicks(later)
    late = day_events(DAY, 20)
    arrive(late)
    assert built() == clicks(late)
    assert of_newest() == clicks(late + later)


def test_a_partition_without_events_keeps_what_history_says(
    arrive: Arrive, settings: Settings, home: Home
) -> None:
    events = day_events(DAY, 20)
    arrive(events)
    found = build_group(click_group(), settings, home, end_of(DAY + timedelta(days=2)), lambda: NOW)
    assert {user: row["clicks"] for user, row in rows_of(found.path).items()} == clicks(events)


def endless(tables: LakeTables, params: BatchParams) -> Any:
    """Rows for longer than anybody waits."""
    rows = count_clicks(tables, params).mutate(tens=ibis.range(30_000).unnest())
    rows = rows.mutate(ones=ibis.range(30_000).unnest())
    return rows.mutate(user_id=(rows.tens * 30_000 + rows.ones).cast("string")).drop("tens", "ones")


ENDLESS = """
    from pathlib import Path
    import orchestration.builds.build as b
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from tests.integration.orchestration.builds.test_faults import DAY, NOW, endless
    from tests.support.offline import click_group

    settings = load_settings()
    b.build_group(click_group(batch=endless), settings, Home(Path(settings.home)), b.end_of(DAY), lambda: NOW)
"""


def test_a_build_killed_in_the_middle_leaves_the_one_before(settings: Settings, home: Home) -> None:
    lake = Lake(home.lake)
    write_events(lake, DAY, day_events(DAY, 20))
    good = build_group(click_group(), settings, home, end_of(DAY), lambda: NOW)
    before = good.path.read_bytes()
    more = day_events(DAY, 20, offset=5_000)
    write_events(lake, DAY, more, "part-1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADRACE_HOME": str(home.root)}
    script = textwrap.dedent(ENDLESS)
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], env=environment) as child:
        written = good.path.parent.glob
        until(
            lambda: child.poll() or any(p.stat().st_size > 1_000 for p in written(".*.tmp")), "a part of it"
        )
        assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    assert good.path.read_bytes() == before
    assert Builds(home.features).history("clicks") == [good.path]
    assert list(good.path.parent.glob(".*.tmp"))  # what the dead one left; retention removes it
    found = build_group(click_group(), settings, home, end_of(DAY), lambda: NOW)
    assert {u: r["clicks"] for u, r in rows_of(found.path).items()} == clicks(day_events(DAY, 20) + more)


def test_a_full_disk_is_named_in_the_run_and_a_rerun_repairs(settings: Settings, home: Home) -> None:
    lake = Lake(home.lake)
    events = [e for n in range(40) for e in day_events(DAY, 50, offset=n * 50)]
    unique = [_own_user(e, n) for n, e in enumerate(events)]
    write_events(lake, DAY, unique)
    # A limit on the size of files does to a write what a full disk does.
    script = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from feature_repo.errors import BuildError
from feature_repo.home import Home
from feature_repo.settings import load_settings
from orchestration.builds.build import as_of_day, build_group, end_of
from tests.integration.orchestration.builds.test_faults import DAY, NOW
from tests.support.offline import click_group
settings = load_settings()
try:
    build_group(click_group(), settings, Home(Path(settings.home)), end_of(DAY), lambda: NOW)
except BuildError as error:
    sys.stdout.write(str(error))
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HEADRACE_HOME": str(home.root),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "clicks as of 2024-05-31T00:00:00Z" in done.stdout
    assert "File too large" in done.stdout
    assert "free space under HEADRACE_HOME" in done.stdout
    assert Builds(home.features).history("clicks") == []
    found = build_group(click_group(), settings, home, end_of(DAY), lambda: NOW)
    assert found == read_build(found.path)
    assert found.rows == len(clicks(unique))


def _own_user(event: Event, number: int) -> Event:
    fields: dict[str, Any] = {name: getattr(event, name) for name in event.__struct_fields__}
    return Event(**{**fields, "user_id": f"user-{number:06d}"})
