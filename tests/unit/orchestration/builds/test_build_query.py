"""A build in parts: how many at first, more where memory does not do, each key once."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pytest

from feature_repo.contract.validation import Item, User
from feature_repo.errors import BuildError, LakeError
from feature_repo.group import BatchParams, FeatureGroup, LakeTables
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.builds import build_query as making
from orchestration.builds.build import build_group, end_of
from orchestration.builds.build_query import Making
from tests.oracles.statistics_oracle import differences
from tests.support.offline import (
    click_group,
    count_clicks,
    day_events,
    event,
    rows_of,
    write_events,
    write_records,
)

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
EVENTS = 40
SEARCH: dict[str, Any] = {"event_type": "search", "item_id": None}


@pytest.fixture(autouse=True)
def lake(home: Home) -> Lake:
    found = Lake(home.lake)
    write_events(found, DAY, day_events(DAY, EVENTS))
    return found


def divisible(fits: int) -> tuple[FeatureGroup, list[int]]:
    """A group that fits in memory in `fits` parts or more, and the parts it was asked for."""
    asked: list[int] = []

    def expression(tables: LakeTables, params: BatchParams) -> Any:
        asked.append(tables.part.of)
        if (
            tables.part.of < fits and tables.part.number == tables.part.of - 1
        ):  # after the others were written
            msg = "Out of Memory Error: could not allocate block"
            raise duckdb.OutOfMemoryException(msg)
        events = tables.keep("mine", tables.events)
        return count_clicks(replace(tables, events=tables.part.rows(events, "user_id")), params)

    return replace(click_group(), batch=expression, divisible=True), asked


def test_a_build_that_does_not_fit_is_made_in_more_parts(
    settings: Settings, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole = build_group(replace(click_group(), name="whole"), settings, home, end_of(DAY), lambda: NOW)
    group, asked = divisible(fits=4)
    found = build_group(group, settings, home, end_of(DAY), lambda: NOW)
    assert asked == [1, 2, 2, 4, 4, 4, 4]
    assert rows_of(found.path) == rows_of(whole.path)
    assert found.rows == whole.rows > 0
    assert "clicks: did not fit in memory, retrying in 4 parts" in caplog.text
    assert not list((home.features / ".spill").iterdir())
    assert not list(found.path.parent.glob(".*.tmp"))


def test_a_build_that_never_fits_says_what_to_raise(
    settings: Settings, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.builds.build.MOST_PARTS", 2)
    group, asked = divisible(fits=1_000)
    with pytest.raises(BuildError, match=r"Out of Memory Error.*; raise HEADRACE_DUCKDB_MEMORY"):
        build_group(group, settings, home, end_of(DAY), lambda: NOW)
    assert asked == [1, 2, 2]


def test_a_group_that_is_not_divisible_is_not_divided(settings: Settings, home: Home) -> None:
    group, asked = divisible(fits=4)
    with pytest.raises(BuildError, match="raise HEADRACE_DUCKDB_MEMORY"):
        build_group(replace(group, divisible=False), settings, home, end_of(DAY), lambda: NOW)
    assert asked == [1]


@pytest.mark.parametrize("shown", [True, False], ids=["", "nothing to split"])
def test_profiles_in_parts_are_the_profiles(
    settings: Settings, home: Home, lake: Lake, monkeypatch: pytest.MonkeyPatch, shown: bool
) -> None:
    if not shown:
        searches = [event(n, datetime(2024, 5, 30, 9, n, tzinfo=UTC), **SEARCH) for n in range(9)]
        write_events(lake, DAY, searches)
    write_records(lake, [Item(item_id=f"i{n}", categories=(f"c{n % 2}",), price=float(n)) for n in range(7)])
    write_records(lake, users=[User(user_id="u1", consent=False), User(user_id="u-quiet")])
    found = []
    for name, per_part in (("whole", EVENTS), ("in_parts", EVENTS // 8)):
        monkeypatch.setattr(making, "EVENTS_PER_GB", per_part / 2)
        group = replace(all_groups()["user_profile"], name=name)
        found.append(build_group(group, settings, home, end_of(DAY), lambda: NOW))
    whole, in_parts = (rows_of(build.path) for build in found)
    assert found[0].rows == found[1].rows == len(whole) == 5
    assert differences(whole, in_parts, "user_profile", 1e-12) == []
    assert not list((home.features / ".spill").iterdir())


@pytest.mark.parametrize(("per_part", "parts"), [(EVENTS, 1), (EVENTS - 1, 2), (EVENTS // 3, 4), (1, 8)])
def test_many_events_are_divided_at_once(
    settings: Settings, home: Home, monkeypatch: pytest.MonkeyPatch, per_part: int, parts: int
) -> None:
    monkeypatch.setattr(making, "EVENTS_PER_GB", per_part / 2)  # two gigabytes are the default
    monkeypatch.setattr(making, "MOST_PARTS", 8)
    group, _ = divisible(fits=1)
    made = Making(group, settings, home, {}, end_of(DAY), NOW)
    assert made.first_parts() == parts
    assert replace(made, group=click_group()).first_parts() == 1


@pytest.mark.parametrize(
    ("memory", "parts"), [("4GB", 1), ("2GB", 2), ("1.0 GB", 4), ("500MB", 8), ("80%", 2), ("2GiB", 1)]
)
def test_the_more_memory_the_fewer_parts(
    settings: Settings, home: Home, monkeypatch: pytest.MonkeyPatch, memory: str, parts: int
) -> None:
    monkeypatch.setattr(making, "EVENTS_PER_GB", EVENTS / 2.1)
    group, _ = divisible(fits=1)
    given = settings.model_copy(update={"duckdb_memory": memory})
    assert Making(group, given, home, {}, end_of(DAY), NOW).first_parts() == parts


def test_a_damaged_file_of_events_is_named(settings: Settings, home: Home, lake: Lake) -> None:
    bad = lake.events_of(DAY) / "part-7.parquet"
    bad.write_bytes(b"PAR1 but no more")
    group, _ = divisible(fits=1)
    with pytest.raises(LakeError, match=r"part-7\.parquet: damaged Parquet file"):
        Making(group, settings, home, {}, end_of(DAY), NOW).first_parts()
    with pytest.raises(BuildError, match=r"clicks as of .*part-7\.parquet: damaged Parquet file"):
        build_group(group, settings, home, end_of(DAY), lambda: NOW)
