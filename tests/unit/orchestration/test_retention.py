"""What is removed, and above all what is not."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from feature_repo.home import Home
from feature_repo.lake import Build, Builds, Lake
from orchestration.retention import KEEP, Keep, Removed, retain, superseded
from tests.offline import click_group, day_events, write_events

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
        ([day(1), day(2)], None, [day(1)]),
        ([day(1), day(2), day(31)], day(1), [day(2)]),
    ],
)
def test_builds_to_remove(times: list[datetime], current: datetime | None, gone: list[datetime]) -> None:
    held = None if current is None else Build(Path("x"), current, current, 0)
    assert [build.as_of for build in superseded(at(*times), held, KEPT, NOW)] == gone


def build(home: Home, time: datetime) -> Path:
    path = Builds(home.features).path("clicks", time)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged is no obstacle")
    return path


def aged(path: Path, age: timedelta) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"x")
    then = (NOW - age).timestamp()
    os.utime(path, (then, then))
    return path


def test_a_run_removes_what_is_past_its_keep_and_nothing_else(home: Home) -> None:
    lake = Lake(home.lake)
    old_day, kept_day = date(2022, 1, 1), date(2024, 5, 1)
    for which in (old_day, kept_day):
        write_events(lake, which, day_events(which, 3))
    gone = [
        build(home, day(28, 1)),
        aged(home.runs / "old.json", timedelta(days=91)),
        aged(home.quarantine / "day=2024-01-01.jsonl", timedelta(days=91)),
        aged(home.features / "clicks" / "v1" / "as_of=x" / ".data.parquet.1-a.tmp", timedelta(days=2)),
        aged(home.root / "training" / ".abc.tmp" / "folded.parquet", timedelta(days=2)),
    ]
    aged(gone[-1].parent, timedelta(days=2))
    stays = [
        build(home, day(28, 5)),
        build(home, day(31)),
        aged(home.runs / "new.json", timedelta(days=89)),
        aged(home.quarantine / "day=2024-05-01.jsonl", timedelta(days=31)),
        aged(home.quarantine / "retried.jsonl", timedelta(days=400)),
        aged(home.features / "clicks" / "v1" / "as_of=y" / ".data.parquet.2-b.tmp", timedelta(minutes=5)),
    ]
    (home.features / "clicks" / "v1" / "as_of=x").mkdir(exist_ok=True)
    removed = retain([click_group()], home, lambda: NOW)
    assert removed == Removed(builds=1, lake_days=1, runs=1, quarantined=1, scratch=2)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in stays if not path.exists()] == []
    assert lake.days() == [kept_day]
    assert not list(home.root.rglob("*.removed.tmp"))
    assert retain([click_group()], home, lambda: NOW) == Removed()


def test_the_current_build_is_never_removed(home: Home) -> None:
    old = build(home, day(1))
    Builds(home.features).promote("clicks", Build(old, day(1), day(1), 1))
    build(home, day(31))
    keep = Keep(builds=timedelta(days=1), intraday=timedelta(0))
    assert retain([click_group()], home, lambda: NOW, keep).builds == 0
    assert old.exists()


def test_an_empty_home_has_nothing_to_remove(home: Home) -> None:
    assert retain([click_group()], home, lambda: NOW) == Removed()


def test_the_lake_is_kept_longer_than_any_look_back() -> None:
    assert KEEP.lake > timedelta(days=365)
