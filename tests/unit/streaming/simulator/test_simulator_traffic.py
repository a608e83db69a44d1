"""The simulated traffic against naive oracles: the click model slot by slot, the table row by row."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.simulator import Shop, ShopConfig, deliver, make_shop, traffic
from streaming.simulator.shop import BRANDS, CATEGORIES
from streaming.simulator.shop_events import CLICK, PURCHASE, SEARCH, TYPES, VIEW, Day, make_day
from streaming.simulator.table import EVENT_SCHEMA, event_table, session_table

CONFIG = ShopConfig(users=250, items=90, days=3, seed=11)


@cache
def shop() -> Shop:
    return make_shop(CONFIG)


@cache
def day(number: int = 1) -> Day:
    return make_day(shop(), number)


@cache
def rows(number: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = event_table(shop(), day(number)).to_pylist()
    return found


def naive_chance(user: int, item: int, intent: int, position: int) -> float:
    """The click model as the documentation states it, for one slot."""
    items, users = shop().items, shop().users
    category = items.category[item]
    liked = math.log(users.taste[user, category] * len(CATEGORIES) + 0.1)
    logit = traffic.BASE
    logit += traffic.INTENT * (category == intent)
    logit += traffic.TASTE * min(max(liked, -1.5), 1.5)
    logit += traffic.BRAND * users.brands[user, items.brand[item]]
    logit -= traffic.PRICE * abs(items.price_level[item] - users.price_level[user])
    logit += traffic.APPEAL * items.appeal[item]
    return (1 + position) ** -traffic.POSITION_BIAS / (1 + math.exp(-logit))


def test_the_chance_of_a_click_is_the_stated_model() -> None:
    made = day()
    assert len(made.pages.session) > 100
    for page in range(0, len(made.pages.session), 7):
        user = int(made.visits.user[made.pages.session[page]])
        for slot, item in enumerate(made.shown.item[page]):
            if item >= 0:
                wanted = naive_chance(user, int(item), int(made.pages.intent[page]), slot)
                assert made.shown.chance[page, slot] == pytest.approx(wanted)
            else:
                assert made.shown.chance[page, slot] == 0


def test_about_as_many_clicks_fall_as_the_chances_sum_to() -> None:
    clicks = sum(int(day(n).shown.clicked.sum()) for n in range(3))
    expected = sum(float(day(n).shown.chance.sum()) for n in range(3))
    assert abs(clicks - expected) < 5 * math.sqrt(expected)


def test_every_click_is_one_of_the_list_at_its_position() -> None:
    lists = {r["request_id"]: r["items"] for r in rows() if r["event_type"] == "impression"}
    followed = [r for r in rows() if r["event_type"] in ("click", "view", "add_to_cart", "purchase", "like")]
    assert followed
    for row in followed:
        assert lists[row["request_id"]][row["position"]]["item_id"] == row["item_id"]


def test_views_carts_and_purchases_follow_a_click_and_purchases_a_cart() -> None:
    seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows():
        key = (row["request_id"], row["item_id"])
        if row["event_type"] in ("view", "like", "add_to_cart", "purchase"):
            assert key in seen["click"]
        if row["event_type"] == "purchase":
            assert key in seen["add_to_cart"]
        seen[row["event_type"]].add(key)
    assert seen["purchase"]


def test_a_search_names_the_intent_just_before_its_page() -> None:
    pages = iter([p for p in range(len(day().pages.session)) if day().pages.search[p]])
    wanted = sorted(CATEGORIES[day().pages.intent[p]] for p in pages)
    searches = [r for r in rows() if r["event_type"] == "search"]
    assert searches
    assert sorted(r["query"] for r in searches) == wanted
    assert all(r["request_id"] is None and r["items"] == [] for r in searches)


def test_events_are_in_order_with_unique_ids() -> None:
    times = [r["event_time"] for r in rows()]
    assert times == sorted(times)
    assert len({r["event_id"] for r in rows()}) == len(rows())
    start = CONFIG.start + timedelta(days=1)
    assert start <= times[0]
    assert times[-1] < start + timedelta(days=1, hours=2)


def test_the_table_is_the_arrays_row_by_row() -> None:
    events, users, items = day().events, shop().users, shop().items
    assert len(rows()) == len(events.type) > 0
    for n, row in enumerate(rows()):
        assert row["event_type"] == TYPES[events.type[n]]
        assert row["session_id"] == f"s1-{events.session[n]}"
        assert row["user_id"] == (users.ids[events.user[n]] if events.identified[n] else None)
        assert row["item_id"] == (items.ids[events.item[n]] if events.item[n] >= 0 else None)
        assert row["position"] == (int(events.position[n]) if events.position[n] >= 0 else None)
        moment = CONFIG.start + timedelta(milliseconds=int(events.time_ms[n]))
        assert row["event_time"] == moment
        if row["event_type"] == "impression":
            shown = day().shown.item[events.page[n]]
            assert [s["item_id"] for s in row["items"]] == [items.ids[i] for i in shown if i >= 0]
        else:
            assert row["items"] == []


def test_only_those_who_deny_consent_say_so_and_only_when_known() -> None:
    denying = {u for u, ok in zip(shop().users.ids, shop().users.consent, strict=True) if not ok}
    assert denying
    said = [r for n in range(3) for r in rows(n) if r["consent"] is not None]
    assert said
    assert all(r["consent"] is False and r["user_id"] in denying for r in said)
    assert all(r["consent"] is False for n in range(3) for r in rows(n) if r["user_id"] in denying)


def test_anonymous_sessions_never_name_their_user_and_logins_do_after_the_first_page() -> None:
    made = day()
    named: dict[int, set[bool]] = defaultdict(set)
    for session, identified in zip(
        made.events.session.tolist(), made.events.identified.tolist(), strict=True
    ):
        named[session].add(identified)
    for session, kinds in named.items():
        if made.visits.anonymous[session]:
            assert kinds == {False}
        elif made.visits.logs_in[session]:
            assert False in kinds
            assert (True in kinds) == bool(made.visits.pages[session] > 1)
        else:
            assert kinds == {True}
    assert made.visits.anonymous.any()
    assert made.visits.logs_in.any()


def test_the_truth_of_a_session_lists_the_intent_of_each_page() -> None:
    truth = session_table(shop(), day()).to_pylist()
    assert [len(t["intents"]) for t in truth] == day().visits.pages.tolist()
    flat = [CATEGORIES.index(intent) for t in truth for intent in t["intents"]]
    assert flat == day().pages.intent.tolist()
    assert [t["user_id"] for t in truth] == [shop().users.ids[u] for u in day().visits.user]


def test_pages_of_a_session_come_one_after_another() -> None:
    impressions: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for n, row in enumerate(rows()):
        if row["event_type"] == "impression":
            impressions[row["session_id"]].append((int(day().events.page[n]), row["event_time"]))
    assert any(len(pages) > 1 for pages in impressions.values())
    for pages in impressions.values():
        ordered = sorted(pages)
        assert [time for _, time in ordered] == sorted(time for _, time in ordered)


@pytest.mark.parametrize(("kind", "of", "share"), [(VIEW, CLICK, 0.6), (PURCHASE, CLICK, 0.14 * 0.4)])
def test_what_follows_clicks_has_its_share(kind: int, of: int, share: float) -> None:
    types = np.concatenate([day(n).events.type for n in range(3)])
    base, got = (types == of).sum(), (types == kind).sum()
    assert abs(got - share * base) < 5 * math.sqrt(share * base)


def test_searches_are_about_their_share_of_pages() -> None:
    pages = sum(len(day(n).pages.session) for n in range(3))
    searches = sum(int((day(n).events.type == SEARCH).sum()) for n in range(3))
    assert abs(searches / pages - traffic.SEARCH_SHARE) < 0.05


def test_records_of_items_and_users_agree_with_the_latent_columns() -> None:
    for n, item in enumerate(shop().item_records()):
        assert item.item_id == f"i{n}"
        assert item.categories[0] == CATEGORIES[shop().items.category[n]]
        assert item.attributes["brand"] == f"brand{shop().items.brand[n]}"
        assert item.created_at is not None
        assert item.created_at <= CONFIG.end
        assert 0 <= shop().items.brand[n] < BRANDS
    declared = sum("segment" in user.attributes for user in shop().user_records())
    assert declared == int(shop().users.declared.sum())
    assert 0.5 < declared / CONFIG.users < 0.9


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    duplicates=st.sampled_from([0.0, 0.1, 1.0]),
    late=st.sampled_from([0.0, 0.3, 1.0]),
    days=st.integers(1, 3),
)
def test_delivery_loses_and_invents_nothing(seed: int, duplicates: float, late: float, days: int) -> None:
    config = ShopConfig(40, 30, days, seed, duplicates=duplicates, late=late, malformed=0.0)
    made = make_shop(config)
    happened = {
        e["event_id"]: e for n in range(days) for e in event_table(made, make_day(made, n)).to_pylist()
    }
    arrived: dict[str, int] = defaultdict(int)
    for delivery in deliver(made):
        assert delivery.table.schema == EVENT_SCHEMA
        assert len(delivery.malformed) == 0
        for row in delivery.table.to_pylist():
            assert row == happened[row["event_id"]]
            arrived[row["event_id"]] += 1
    assert set(arrived) == set(happened)
    assert set(arrived.values()) <= {1, 2}
    repeated = sum(n == 2 for n in arrived.values())
    assert repeated == (len(happened) if duplicates == 1.0 else repeated)
    assert (repeated == 0) >= (duplicates == 0.0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), items=st.integers(1, 25), users=st.integers(1, 30))
def test_the_smallest_shops_work(seed: int, items: int, users: int) -> None:
    made = make_shop(ShopConfig(users, items, 1, seed))
    table = event_table(made, make_day(made, 0))
    assert table.schema == EVENT_SCHEMA
    for shown in table["items"].to_pylist():
        ids = [slot["item_id"] for slot in shown]
        assert len(set(ids)) == len(ids) <= items
