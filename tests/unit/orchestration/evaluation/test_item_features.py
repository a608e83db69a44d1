"""Items of a replay against counts over the events before."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_repo.contract.validation import Event, Item
from feature_repo.group import BatchParams
from feature_repo.settings import Settings
from feature_repo.statistics import Statistics
from orchestration.evaluation.history import History
from orchestration.evaluation.item_features import ReplayItems
from serving.items.item_rows import ALONE, LAST_ITEMS
from serving.items.item_snapshot import MAX_NUMERICS
from tests.support.history_data import START, event, history, shop_items, shown

IDS = ["i0", "i1", "i2", "stranger"]
SETTINGS = Settings()


def items_of(past: History) -> ReplayItems:
    statistics = Statistics(BatchParams.of(SETTINGS, datetime.now(UTC)), past.catalogue, past.users)
    for e in past.events:
        statistics.add(e)
    return ReplayItems(past, statistics)


events = st.lists(
    st.tuples(
        st.integers(0, 4000),
        st.one_of(
            st.sampled_from(IDS),
            st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True),
        ),
        st.sampled_from(["s1", "s2"]),
    ),
    min_size=1,
    max_size=25,
)


def made(rows: list[tuple[int, str | list[str], str]]) -> list[Event]:
    return [
        event(n, at, "impression", items=shown(what), session_id=session)
        if isinstance(what, list)
        else event(n, at, item_id=what, session_id=session)
        for n, (at, what, session) in enumerate(sorted(rows, key=lambda row: row[0]))
    ]


@examples(max_examples=60)
@given(events, st.integers(1, 4100))
def test_reception_is_what_was_counted_before(
    rows: list[tuple[int, str | list[str], str]], seconds: int
) -> None:
    past = history(made(rows), shop_items(3))
    now = START + timedelta(seconds=seconds)
    before = [e for e in past.events if e.event_time < now]
    known = [i for i in IDS if i in past.catalogue or any(i in _touched(e) for e in past.events)]
    view = items_of(past).view(known, (), now)
    for place, item_id in enumerate(known):
        clicks = sum(e.item_id == item_id for e in before)
        impressions = sum(slot.item_id == item_id for e in before for slot in e.items)
        assert view.popularity[place] == pytest.approx((clicks + 1) / (impressions + 5))
        assert view.rows.alone[place, 1] == pytest.approx(math.log1p(clicks))
        decayed = sum(
            0.5 ** ((now - e.event_time).total_seconds() / 3600) for e in before if e.item_id == item_id
        )
        assert view.rows.alone[place, 2] == pytest.approx(math.log1p(decayed))


def _touched(e: Event) -> set[str | None]:
    return {e.item_id, *(slot.item_id for slot in e.items)}


@examples(max_examples=60)
@given(events)
def test_items_go_together_as_often_as_sessions_touched_both(
    rows: list[tuple[int, str | list[str], str]],
) -> None:
    past = history(made([row for row in rows if row[0] < 1500] or [(0, "i0", "s1")]), shop_items(3))
    now = START + timedelta(seconds=1600)
    touched: dict[str, set[str]] = {}
    for e in past.events:
        if e.item_id is not None:
            touched.setdefault(e.session_id, set()).add(e.item_id)
    last = ["i0", "i1"]
    rows_found = items_of(past).view(["i0", "i1", "i2"], last, now).rows
    for column, other in enumerate(last):
        assert rows_found.sessions[column] == sum(other in t for t in touched.values())
        for place, item_id in enumerate(["i0", "i1", "i2"]):
            both = sum({other, item_id} <= t for t in touched.values()) if other != item_id else 0
            assert rows_found.together[place, column] == both


def test_attributes_and_numbers_are_those_of_the_catalogue() -> None:
    past = history([event(1, 0, item_id="stranger")], shop_items(3))
    rows = items_of(past).view(["i2", "stranger", "i0"], (), START + timedelta(seconds=5)).rows
    names = {number: key for key, number in rows.attributes.ids.items()}
    bounds, values = rows.attributes.offsets, rows.attributes.values
    of = [[names[v] for v in values[bounds[row] : bounds[row + 1]].tolist()] for row in rows.rows.tolist()]
    assert of == [["category:horror", "colour:green"], [], ["category:drama", "colour:red"]]
    assert rows.numeric_names == ("price",)
    np.testing.assert_allclose(rows.alone[:, ALONE], np.log1p([7.0, np.nan, 5.0]))
    assert (rows.share > 0).all()


def test_what_was_touched_is_numbered_and_the_newest_go_with_candidates() -> None:
    past = history([event(1, 0, item_id="stranger")], shop_items(9))
    touched = [*(f"i{n}" for n in range(6)), "never met", "stranger"]
    view = items_of(past)
    rows = view.view(["i2", "stranger"], touched, START + timedelta(seconds=5)).rows
    named = view.view([t for t in touched if t != "never met"], (), START + timedelta(seconds=5)).rows
    assert rows.touched.tolist() == [*named.rows.tolist()[:6], -1, int(named.rows[6])]
    assert rows.together.shape == (2, LAST_ITEMS)
    assert rows.places.tolist() == [0, 1]


def test_shares_of_all_items_sum_to_one() -> None:
    past = history([event(1, 0, item_id="i1"), event(2, 5, "purchase", item_id="i2")], shop_items(3))
    rows = items_of(past).view(["i0", "i1", "i2"], (), START + timedelta(seconds=60)).rows
    assert rows.share.sum() == pytest.approx(1.0)
    assert rows.share[2] > rows.share[1] > rows.share[0]


def test_as_many_numbers_as_serving_takes_are_taken() -> None:
    many = {f"n{i:02d}": float(i) for i in range(MAX_NUMERICS + 4)}
    past = history(
        [event(1, 0, item_id="x")],
        [
            Item(item_id="x", attributes=dict(many)),
            Item(item_id="y", attributes=dict(list(many.items())[4:])),
        ],
    )
    rows = items_of(past).view(["x", "y"], (), START + timedelta(seconds=1)).rows
    assert rows.numeric_names == tuple(list(many)[4:])
