"""What is removed, and above all what is not."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from feature_repo.errors import ContractError, SettingsError
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds, Lake
from feature_repo.settings import Settings, load_settings
from orchestration.builds.lake_sync import prune_lake
from orchestration.builds.retention import KEEP, Keep, Removed, retain, superseded
from quality.quarantine.store import Quarantine
from tests.support.offline import click_group, day_events, write_events

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
KEPT = Keep(intraday=timedelta(days=2), builds=timedelta(days=10))


def at(*times: datetime) -> list[Build]:
    return [Build(Path(f"{time:%d%H}"), time, time, 0) for time in sorted(times)]


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2024, 5, number, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("times", "current", "gone"),
    [
        ([], None, []),
        # The last build of a past day stays, the hourly ones before it go.
        ([day(28, 1), day(28, 5), day(29), day(31)], None, [day(28, 1), day(28, 5)]),
        # Within two days every build stays.
        ([day(31, 1), day(31, 5), day(31, 9)], None, []),
        # Past the keep a day goes, unless it is the newest or the current.
        ([day(1), day(2), day(31)], None, [day(1), day(2)]),
        # Age is counted from the newest build: a history keeps its days however long ago they were.
        ([day(1), day(2)], None, []),
        ([day(1), day(2), day(31)], day(1), [day(2)]),
    ],
)
def test_builds_to_remove(times: list[datetime], current: datetime | None, gone: list[datetime]) -> None:
    held = None if current is None else Build(Path("x"), current, current, 0)
    assert [build.as_of for build in superseded(at(*times), held, KEPT)] == gone


def build(home: Home, time: datetime) -> Path:
    path = Builds(home.features).path("clicks", time)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged is no obstacle")
    return path


def rejected(home: Home, when: datetime) -> Path:
    Quarantine(home.quarantine, lambda: when).put(
        b"{", f"{when}", 1, ContractError("not_json", "", "no JSON")
    )
    return home.quarantine / f"day={when.date().isoformat()}.jsonl"


def aged(path: Path, age: timedelta) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"x")
    then = (NOW - age).timestamp()
    os.utime(path, (then, then))
    return path


def test_a_run_removes_what_is_past_its_keep_and_nothing_else(home: Home) -> None:
    gone = [
        build(home, day(28, 1)),
        aged(home.runs / "old.json", timedelta(days=91)),
        rejected(home, NOW - timedelta(days=91)),
        aged(home.features / "clicks" / "v1" / "as_of=x" / ".data.parquet.1-a.tmp", timedelta(days=2)),
        aged(home.root / "training" / ".abc.tmp" / "folded.parquet", timedelta(days=2)),
    ]
    aged(gone[-1].parent, timedelta(days=2))
    stays = [
        build(home, day(28, 5)),
        build(home, day(31)),
        aged(home.runs / "new.json", timedelta(days=89)),
        rejected(home, NOW - timedelta(days=31)),
        aged(home.quarantine / "retried.jsonl", timedelta(days=400)),
        aged(home.features / "clicks" / "v1" / "as_of=y" / ".data.parquet.2-b.tmp", timedelta(minutes=5)),
    ]
    (home.features / "clicks" / "v1" / "as_of=x").mkdir(exist_ok=True)
    removed = retain([click_group()], home, lambda: NOW)
    assert removed == Removed(builds=1, runs=1, quarantined=1, scratch=2)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in stays if not path.exists()] == []
    assert not list(home.root.rglob("*.removed.tmp"))
    assert retain([click_group()], home, lambda: NOW) == Removed()


def test_pages_figures_and_what_was_set_aside_go_by_age(home: Home) -> None:
    def folder(name: str, days: float) -> Path:
        path = home.root / name
        path.mkdir(parents=True)
        (path / "part").touch()
        return aged(path, timedelta(days=days))

    gone = [
        folder("docs/drift/behaviour/2024-01-01", 91),
        folder("stream/recovery-damaged-20240401T000000", 31),
        aged(home.docs / "events_2024-01-01.html", timedelta(days=91)),
        aged(home.quality / "behaviour" / "2024-01-01.json", timedelta(days=91)),
        aged(home.root / "spill" / "duckdb_temp.tmp", timedelta(days=2)),
    ]
    stays = [
        folder("docs/drift/behaviour/2024-05-01", 89),
        folder("stream/recovery-damaged-20240601T000000", 29),
        folder("stream/recovery", 400),
        aged(home.docs / "index.html", timedelta(days=400)),
        aged(home.quality / "drift" / "clicks.json", timedelta(days=400)),
    ]
    assert retain([click_group()], home, lambda: NOW) == Removed(pages=3, scratch=2)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in stays if not path.exists()] == []


def test_drift_pages_go_with_their_build(home: Home) -> None:
    pages = []
    for when in (day(28, 1), day(28, 5), day(31)):
        build(home, when)
        name = f"{when:%Y%m%dT%H%M%SZ}"
        pages.append(aged(home.docs / "drift" / click_group().view_name / name / "f.svg", timedelta(0)))
    retain([click_group()], home, lambda: NOW)
    assert [page.exists() for page in pages] == [False, True, True]


def test_blends_stay_longer_than_decisions_and_the_one_that_serves_stays(home: Home) -> None:
    def blend(*when: int) -> Path:
        return aged(home.models / f"blend-{day(*when):%Y%m%dT%H%M%S%fZ}.json", timedelta(0))

    first, serves, last = blend(2, 1), blend(2, 2), blend(2, 3)
    recent = [blend(31, hour) for hour in (1, 2)]
    by_hand = aged(home.models / "blend-mine.json", timedelta(days=400))
    (home.models / "CURRENT").write_text(serves.name)
    assert retain([click_group()], home, lambda: NOW).blends == 1
    assert not first.exists()
    assert all(path.exists() for path in (serves, last, *recent, by_hand))
    assert KEEP.blends > timedelta(hours=Settings().decision_retention_hours)


def test_the_current_build_is_never_removed(home: Home) -> None:
    old = build(home, day(1))
    Builds(home.features).promote("clicks", Build(old, day(1), day(1), 1))
    build(home, day(31))
    keep = Keep(builds=timedelta(days=1), intraday=timedelta(0))
    assert retain([click_group()], home, lambda: NOW, keep).builds == 0
    assert old.exists()


def test_an_empty_home_has_nothing_to_remove(home: Home) -> None:
    assert retain([click_group()], home, lambda: NOW) == Removed()


@pytest.mark.parametrize(("days", "kept"), [(None, [2016, 2022, 2024]), (700, [2024])])
def test_lake_days_go_only_when_a_setting_says_so(home: Home, days: float | None, kept: list[int]) -> None:
    for year in (2016, 2022, 2024):
        write_events(Lake(home.lake), date(year, 1, 1), day_events(date(year, 1, 1), 3))
    settings = Settings(home=home.root, lake_retention_days=days)
    assert prune_lake(settings, home) == 3 - len(kept)
    assert [found.year for found in Lake(home.lake).days()] == kept


def test_a_lake_kept_shorter_than_the_look_back_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"LAKE_RETENTION_DAYS \(30\).*HISTORY_DAYS \(365\)"):
        load_settings(lake_retention_days=30)


def test_a_build_as_old_as_its_keep_stays_and_an_instant_more_goes() -> None:
    newest, instant = day(31, 12), timedelta(microseconds=1)
    for age, gone in ((KEPT.builds, 0), (KEPT.builds + instant, 1)):
        assert len(superseded(at(newest - age, newest), None, KEPT)) == gone
    # Two of one past day: the earlier one goes once both are older than a day's hourly builds are kept.
    last = newest - KEPT.intraday
    for at_first, gone in ((last, 0), (last - instant, 1)):
        found = superseded(at(at_first, at_first + timedelta(hours=1), newest), None, KEPT)
        assert len(found) == gone


def test_a_build_as_of_midnight_is_the_last_of_the_day_before() -> None:
    """As-of is an end: the build of 28 May 00:00 holds 27 May, and is not one of two of the 28th."""
    times = [day(27, 23), day(28), day(28, 1), day(29), day(31, 1)]
    assert [b.as_of for b in superseded(at(*times), None, KEPT)] == [day(27, 23), day(28, 1)]


def test_what_duckdb_spilt_and_left_is_scratch(home: Home) -> None:
    gone = aged(home.features / ".spill" / "duckdb_temp_storage_0.tmp", timedelta(days=2))
    stays = aged(home.features / ".spill" / "of_a_build_now_running.tmp", timedelta(hours=2))
    assert retain([click_group()], home, lambda: NOW).scratch == 1
    assert (gone.exists(), stays.exists()) == (False, True)


def test_a_report_as_old_as_its_keep_stays(home: Home) -> None:
    stays = aged(home.runs / "edge.json", timedelta(days=90))
    gone = aged(home.runs / "past.json", timedelta(days=90, seconds=1))
    folder = aged(home.runs / "demo" / "report.json", timedelta(days=200)).parent
    aged(folder, timedelta(days=200))
    assert retain([click_group()], home, lambda: NOW).runs == 2
    assert (stays.exists(), gone.exists(), folder.exists()) == (True, False, False)


def test_a_group_is_kept_by_its_own_newest_build(home: Home) -> None:
    """An old group that is no longer built keeps its last one; versions are told apart."""
    old = build(home, day(1))
    other = Builds(home.features).path("clicks", day(31), version=2)
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x")
    assert retain([click_group()], home, lambda: NOW, KEPT).builds == 0
    assert old.exists()
    assert other.exists()
