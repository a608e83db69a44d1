"""The session fold, rule by rule, and against a fold that keeps every event."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalogue import ItemFacts
from feature_repo.contract.validation import Event
from feature_repo.groups.session_profile import (
    ATTRIBUTES,
    CART_ITEMS,
    COUNTED,
    GROUP,
    LAST_ITEMS,
    LAST_QUERIES,
    Profile,
    SessionRules,
    Touch,
    step,
    touch_of,
    values,
)
from feature_repo.groups.user_recent import GROUP as USER_GROUP
from feature_repo.groups.user_recent import merge
from feature_repo.settings import Settings

S = 1_000_000
T0 = 1_717_243_200 * S
GAP, HALF_LIFE = 1800, 600
RULES = SessionRules(GAP * S, HALF_LIFE * S)
WEIGHTS = Settings().weights


def facts(item_id: str, *categories: str, price: float | None = None) -> ItemFacts:
    return ItemFacts(item_id, attr_keys=tuple(f"category:{c}" for c in categories), price=price)


CATALOGUE = {f"i{n}": facts(f"i{n}", f"c{n % 4}", price=float(n) if n % 3 else None) for n in range(40)}


def touch(at_s: float, kind: str = "view", item: str | None = "i1", **more: Any) -> Touch:
    return Touch(T0 + int(at_s * S), more.pop("event_id", f"e{at_s}"), kind, WEIGHTS[kind], item, **more)


def fold(touches: Sequence[Touch], rules: SessionRules = RULES) -> Profile:
    profile = None
    for t in touches:
        profile = step(profile, t, CATALOGUE.get(t.item_id or ""), rules)
    assert profile is not None
    return profile


def features(*touches: Touch) -> dict[str, Any]:
    return values(fold(touches), RULES)


def test_values_are_the_declared_features_in_order() -> None:
    assert tuple(features(touch(0))) == GROUP.feature_names


def test_a_gap_begins_anew_and_its_edge_does_not() -> None:
    assert features(touch(0), touch(GAP))["event_count"] == 2
    anew = features(touch(0, item="i2"), touch(GAP + 0.001))
    assert (anew["event_count"], anew["item_ids"], anew["dwell_s"]) == (1, ["i1"], 0.0)


def test_items_newest_first_touched_again_moves_up() -> None:
    row = features(touch(0, item="i1"), touch(1, item="i2"), touch(2, "like", item="i1"))
    assert row["item_ids"] == ["i1", "i2"]
    assert row["item_weights"] == [3.0, 1.0]
    assert row["item_times_ms"] == [(T0 + 2 * S) // 1000, (T0 + S) // 1000]


def test_context_counts_and_touches_nothing() -> None:
    row = features(touch(0, "impression", None), touch(1, "search", None, query="shoes"))
    assert (row["item_ids"], row["event_count"], row["impression_count"], row["search_count"]) == (
        [],
        2,
        1,
        1,
    )
    assert row["queries"] == ["shoes"]
    assert row["mean_price"] is None


def test_attributes_decay_by_half_life_and_shares_do_not_change() -> None:
    row = features(
        touch(0, item="i1"), touch(HALF_LIFE, item="i2"), touch(HALF_LIFE, "search", None, query="q")
    )
    assert row["attr_keys"] == ["category:c2", "category:c1"]
    assert row["attr_weights"] == pytest.approx([1.0, 0.5])
    assert row["categories"] == ["c2", "c1"]
    assert row["category_shares"] == pytest.approx([2 / 3, 1 / 3])


def test_weeks_in_one_session_do_not_overflow() -> None:
    row = features(*(touch(n * GAP, item=f"i{n % 3}") for n in range(3000)))
    assert all(math.isfinite(w) for w in row["attr_weights"])
    assert row["attr_weights"][0] == pytest.approx(1 / (1 - 2 ** (-3 * GAP / HALF_LIFE)), rel=1e-6)


def test_the_cart_holds_what_is_not_bought() -> None:
    row = features(
        touch(0, "add_to_cart", "i1"),
        touch(1, "add_to_cart", "i2"),
        touch(2, "purchase", "i1"),
        touch(3, "view", "i3"),
    )
    assert row["cart_item_ids"] == ["i2"]


def test_mean_price_counts_each_touched_item_once() -> None:
    row = features(touch(0, item="i1"), touch(1, item="i5"), touch(2, item="i1"), touch(3, item="i3"))
    assert row["mean_price"] == 3.0


def test_every_list_is_capped() -> None:
    crowd = [Touch(T0 + n, f"e{n:04d}", "add_to_cart", 3.0, f"x{n}", None, f"q{n}") for n in range(500)]
    profile = None
    for n, t in enumerate(crowd):
        profile = step(profile, t, facts(f"x{n}", f"only-{n}", "all"), RULES)
    assert profile is not None
    row = values(profile, RULES)
    assert len(row["item_ids"]) == len(row["item_times_ms"]) == len(row["item_weights"]) == LAST_ITEMS
    assert len(row["queries"]) == LAST_QUERIES
    assert len(row["cart_item_ids"]) == CART_ITEMS
    assert len(row["attr_keys"]) == len(row["attr_weights"]) == ATTRIBUTES
    assert len(profile.attrs) < 2 * ATTRIBUTES
    assert row["attr_keys"][0] == "category:all"


def test_a_login_keeps_the_session_another_user_begins_anew() -> None:
    row = features(touch(0, item="i1"), touch(1, item="i2", user_id="anna"), touch(2, item="i3"))
    assert (row["user_id"], row["event_count"]) == ("anna", 3)
    row = features(touch(0, user_id="anna"), touch(1, item="i2", user_id="ben"))
    assert (row["user_id"], row["item_ids"]) == ("ben", ["i2"])


def test_denial_erases_and_holds_until_consent() -> None:
    denied = fold([touch(0, user_id="anna"), touch(1, consent=False)])
    assert denied.denied
    assert (denied.items, denied.attrs, denied.event_count) == ({}, {}, 0)
    still = fold([touch(0, user_id="anna"), touch(1, consent=False), touch(2)])
    assert still.denied
    assert (still.items, still.last_us) == ({}, T0 + 2 * S)
    assert fold([touch(1, consent=False), touch(2, consent=True)]).event_count == 1
    assert fold([touch(1, user_id="anna", consent=False), touch(2, user_id="ben")]).event_count == 1
    assert fold([touch(1, consent=False), touch(2 + GAP)]).event_count == 1


def test_a_touch_is_what_the_fold_needs_of_an_event() -> None:
    event = Event(
        event_id="e",
        event_type="like",
        event_time=datetime(2024, 6, 1, 12, 0, 0, 5, tzinfo=UTC),
        session_id="s",
        item_id="i",
    )
    assert touch_of(event, WEIGHTS, None) == Touch(T0 + 5, "e", "like", 2.0, "i", None, None, None)
    assert touch_of(event, {}, True).weight == 0.0


def oracle(touches: Sequence[Touch]) -> dict[str, Any]:
    """The features from the whole list of the last run's events, each by its sentence in the declaration."""
    run = [touches[0]]
    for t in touches[1:]:
        run = [t] if t.time_us - run[-1].time_us > RULES.gap_us else [*run, t]
    last = run[-1].time_us
    engaged = [t for t in run if t.item_id is not None and t.weight > 0]
    newest: dict[str, list[Touch]] = {}
    for t in engaged:
        newest[t.item_id or ""] = [*newest.pop(t.item_id or "", []), t]
    items = list(newest.items())[::-1]
    attrs: dict[str, float] = {}
    for t in engaged:
        for key in CATALOGUE[t.item_id or ""].attr_keys:
            attrs[key] = attrs.get(key, 0.0) + t.weight * 2 ** (-(last - t.time_us) / S / HALF_LIFE)
    prices = [CATALOGUE[i].price for i in newest if CATALOGUE[i].price is not None]
    return {
        "item_ids": [i for i, _ in items],
        "item_times_ms": [ts[-1].time_us // 1000 for _, ts in items],
        "item_weights": [sum(t.weight for t in ts) for _, ts in items],
        "attrs": attrs,
        "event_count": len(run),
        **{f"{k}_count": sum(t.kind == k for t in run) for k in COUNTED},
        "dwell_s": (last - run[0].time_us) / 1e6,
        "mean_price": sum(p for p in prices if p is not None) / len(prices) if prices else None,
    }


@st.composite
def runs(draw: st.DrawFn) -> list[Touch]:
    at, touches = 0, []
    for n in range(draw(st.integers(1, 60))):
        at += draw(st.integers(0, 400)) if draw(st.integers(0, 15)) else 2000
        kind = draw(st.sampled_from(COUNTED))
        item = None if kind in ("impression", "search") else f"i{draw(st.integers(0, LAST_ITEMS - 1))}"
        touches.append(touch(at, kind, item, event_id=f"e{n}"))
    return touches


@settings(max_examples=200, deadline=None)
@given(runs())
def test_equals_the_oracle(touches: list[Touch]) -> None:
    row, wanted = features(*touches), oracle(touches)
    attrs = wanted.pop("attrs")
    assert dict(zip(row["attr_keys"], row["attr_weights"], strict=True)) == pytest.approx(attrs)
    assert row["attr_weights"] == sorted(row["attr_weights"], reverse=True)
    assert {k: row[k] for k in wanted} == wanted


def test_a_user_is_the_sum_of_the_sessions() -> None:
    first = fold([touch(0, "view", "i1"), touch(1, "search", None, query="a")])
    second = fold([touch(HALF_LIFE, "like", "i1"), touch(HALF_LIFE, "view", "i2", event_id="z", query="b")])
    row = merge([second, first], RULES)
    assert tuple(row) == USER_GROUP.feature_names
    assert (row["session_count"], row["event_count"], row["queries"]) == (2, 4, ["b", "a"])
    assert row["item_ids"] == ["i1", "i2"]
    assert row["item_weights"] == [3.0, 1.0]
    assert dict(zip(row["attr_keys"], row["attr_weights"], strict=True)) == pytest.approx(
        {"category:c1": 2.5, "category:c2": 1.0}
    )
