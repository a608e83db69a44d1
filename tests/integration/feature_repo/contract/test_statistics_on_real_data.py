"""The slow groups on the three public data sets: batch and replay agree, figures are those of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.catalogue import catalogue_of
from feature_repo.contract.validation import Contract, Event, Item, to_arrow
from feature_repo.group import BatchParams
from feature_repo.groups import batch_groups
from feature_repo.settings import Settings
from feature_repo.statistics import Statistics
from quality.checks.report import check_events, check_group
from streaming.sources import InputFile, open_source
from tests.conftest import NOW
from tests.oracles.statistics_oracle import differences
from tests.support.batch import build_all, rows_of

FILES = {
    "metarank": "ranklens/events.jsonl.gz",
    "movielens": "movielens-latest-small",
    "deskdrop": "deskdrop/users_interactions.csv.zip",
}

pytestmark = pytest.mark.real_data


@dataclass
class Data:
    events: list[Event]
    items: list[Item]
    params: BatchParams
    built: dict[str, Any]


@cache
def records(fmt: str, path: Path) -> tuple[list[Event], list[Item]]:
    source = open_source(fmt, Settings().weights)
    contract = Contract(settings_of(fmt), lambda: NOW)
    events: dict[str, Event] = {}
    items: list[Item] = []
    for file in source.files(InputFile(path)):
        for row in source.rows(file, None):
            record = contract.parse(source.convert(row.raw, None))
            if isinstance(record, Event):
                events[record.event_id] = record
            elif isinstance(record, Item):
                items.append(record)
    return sorted(events.values(), key=lambda e: e.event_time), items


def settings_of(fmt: str) -> Settings:
    known = open_source(fmt, Settings().weights).event_types
    return Settings(event_weights={**known, "tag": 1.0})


def load(fmt: str, path: Path, only: str | None = None, share: float = 1.0) -> Data:
    """A data set and its builds; `share` of the events, those of every n-th user."""
    events, items = records(fmt, path)
    users = sorted({str(e.user_id) for e in events})
    kept = set(users[:: round(1 / share)])
    events = [e for e in events if e.user_id in kept]
    params = BatchParams.of(settings_of(fmt), events[-1].event_time + timedelta(minutes=1))
    return Data(events, items, params, build_all(events, items, [], params, only))


SHARES = {"metarank": 0.2, "movielens": 0.125, "deskdrop": 1.0}
_slices: dict[str, Data] = {}


@pytest.fixture(params=list(FILES))
def data(request: pytest.FixtureRequest, shared_data: Callable[[str], Path]) -> Data:
    fmt = request.param
    if fmt not in _slices:
        _slices[fmt] = load(fmt, shared_data(FILES[fmt]), share=SHARES[fmt])
    return _slices[fmt]


def test_batch_and_replay_agree(data: Data) -> None:
    now = data.params.as_of
    statistics = Statistics(data.params, catalogue_of(data.items))
    for event in data.events:
        statistics.add(event)
    users = rows_of(data.built["user_profile"], "user_id")
    assert differences(users, {u: statistics.user_profile(u, now) for u in users})[:5] == []
    segments = rows_of(data.built["segment_profile"], "segment")
    assert differences(segments, {s: statistics.segment_profile(s, now) for s in segments}) == []
    for item_id, row in rows_of(data.built["item_neighbours"], "item_id").items():
        counts, sessions = statistics.neighbours(item_id, now)
        after, steps = statistics.following(item_id, now)
        of_replay = [list(counts), list(counts.values()), sessions, list(after), list(after.values()), steps]
        assert of_replay == list(row.values())
    items = data.built["item_profile"]
    found = statistics.items(items["item_id"].to_pylist(), now)
    for name in ("impressions", "clicks", "purchases", "ctr", "ctr_debiased"):
        assert getattr(found, name) == pytest.approx(items[name].to_numpy(), rel=1e-9)
    for column, name in enumerate(("short", "mid", "long")):
        wanted = items[f"popularity_{name}"].to_numpy()
        assert found.popularity[:, column] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_what_holds_of_any_data(data: Data) -> None:
    users = {e.user_id for e in data.events}
    assert data.built["user_profile"].num_rows == len(users)
    touched = {e.item_id for e in data.events} | {s.item_id for e in data.events for s in e.items}
    wanted = (touched | {i.item_id for i in data.items}) - {None}
    assert data.built["item_profile"].num_rows == len(wanted)
    for row in data.built["user_profile"].to_pylist():
        assert row["recency_days"] >= 0
        assert row["click_rate"] > 0
        assert sum(row["category_shares"]) <= 1 + 1e-9
        assert row["category_shares"] == pytest.approx(sorted(row["category_shares"], reverse=True))
        assert len(row["attr_keys"]) == len(set(row["attr_keys"])) == len(row["attr_expected"])
    for row in data.built["item_profile"].to_pylist():
        assert row["popularity_short"] <= row["popularity_mid"] <= row["popularity_long"]
        length = sum(v * v for v in row["vector"])
        assert length == pytest.approx(1.0, abs=1e-5) or (length == 0.0)
    everyone = rows_of(data.built["segment_profile"], "segment")["all"]
    assert everyone["user_count"] == len(users)


def test_ranklens_is_accounted_for(shared_data: Callable[[str], Path]) -> None:
    built = load("metarank", shared_data(FILES["metarank"]), only="item_profile").built["item_profile"]
    assert built["impressions"].to_numpy().sum() == 9_800 * 24
    assert built["clicks"].to_numpy().sum() == 46_125
    expected = (built["clicks"].to_numpy() + 10) / built["ctr_debiased"].to_numpy() - 10
    assert expected.sum() == pytest.approx(46_125)


def test_deskdrop_has_no_attributes_and_still_has_neighbours_and_popularity(
    shared_data: Callable[[str], Path],
) -> None:
    data = _slices.get("deskdrop") or load("deskdrop", shared_data(FILES["deskdrop"]))
    assert len(data.events) == 72_312 - 2_284
    users = data.built["user_profile"]
    assert users.num_rows == 1_895
    assert set(users["segment"].to_pylist()) == {"all"}
    assert {len(keys) for keys in users["attr_keys"].to_pylist()} == {0}
    items = data.built["item_profile"]
    assert items.num_rows == 2_987
    assert set(items["ctr"].to_pylist()) == {0.1}
    neighbours = data.built["item_neighbours"]["neighbour_ids"].to_pylist()
    assert max(len(ids) for ids in neighbours) == data.params.neighbours_top_k


def test_a_build_in_the_middle_sees_nothing_of_what_follows(shared_data: Callable[[str], Path]) -> None:
    whole = load("metarank", shared_data(FILES["metarank"]), only="item_profile", share=0.1)
    middle: datetime = whole.events[len(whole.events) // 2].event_time
    params = BatchParams.of(Settings(), middle)
    past = [e for e in whole.events if e.event_time < middle]
    one, other = (
        build_all(events, whole.items, [], params, only="user_profile")["user_profile"]
        for events in (whole.events, past)
    )
    found = rows_of(one, "user_id")
    assert differences(rows_of(other, "user_id"), found) == []
    assert max(row["last_event_time"] for row in found.values()) < middle


def test_nothing_of_real_groups_and_days_blocks(data: Data, tmp_path: Path) -> None:
    for name, group in batch_groups().items():
        table = data.built[name]
        for column in ("event_timestamp", "created_timestamp"):
            stamp = pa.scalar(data.params.as_of, group.arrow_schema.field(column).type)
            table = table.append_column(column, pa.repeat(stamp, table.num_rows))
        report = check_group(group, table.select(group.arrow_schema.names).cast(group.arrow_schema))
        assert report.passed, (name, report.blocking_failures)
    days = sorted({e.event_time.date() for e in data.events})
    for day in (days[0], days[len(days) // 2], days[-1]):
        path = tmp_path / f"{day}.parquet"
        pq.write_table(to_arrow("event", [e for e in data.events if e.event_time.date() == day], NOW), path)
        settings = Settings(event_weights=dict(data.params.weights))
        report = check_events([str(path)], settings=settings, day=day)
        assert report.rows > 0
        assert report.passed, (day, report.blocking_failures)
