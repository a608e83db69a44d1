"""Exploration, diversity, experiments and the holdout in answers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serving.control.experiments import Arm, Experiment, assign, fraction

Body = Callable[..., dict[str, Any]]


def rank(api: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def flags(api: httpx.Client, **changes: Any) -> None:
    api.patch("/v1/flags", json=changes).raise_for_status()


def consistent(answer: dict[str, Any], count: int) -> None:
    assert sorted(ids(answer)) == sorted(f"i{n}" for n in range(count))
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    for item in answer["items"]:
        assert sum(item["why"].values()) == pytest.approx(item["score"])


def test_exploration_says_with_which_chance(api: httpx.Client, body: Body) -> None:
    flags(api, **{"exploration.share": 0.2})
    request = body(30, user_id="u", session_id="s", explain=True, request_id="draw-1")
    answer = rank(api, request)
    consistent(answer, 30)
    assert all(0.0 < item["propensity"] <= 1.0 for item in answer["items"])
    assert ids(rank(api, request)) == ids(answer), "the request id determines the draw"
    others = [ids(rank(api, {**request, "request_id": f"draw-{n}"})) for n in range(2, 8)]
    assert any(other != ids(answer) for other in others)


def test_without_exploration_there_is_no_propensity(api: httpx.Client, body: Body) -> None:
    assert "propensity" not in rank(api, body(30, user_id="u"))["items"][0]


def test_the_base_order_never_explores(api: httpx.Client, body: Body) -> None:
    flags(api, **{"exploration.share": 0.2})
    assert ids(rank(api, body(30, user_id="u", consent=False))) == [f"i{n}" for n in range(30)]


def test_a_cap_per_category_holds_on_the_page(api: httpx.Client, body: Body) -> None:
    request = body(30, user_id="u", session_id="s", explain=True)
    assert len({int(i[1:]) % 3 for i in ids(rank(api, request))[:6]}) == 1
    flags(api, **{"diversity.per_category": 2, "diversity.slots": 6})
    answer = rank(api, request)
    consistent(answer, 30)
    categories = [int(i[1:]) % 3 for i in ids(answer)[:6]]
    assert max(map(categories.count, categories)) == 2


def test_the_holdout_gets_the_base_order_after_the_same_work(api: httpx.Client, body: Body) -> None:
    answer = rank(api, body(user_id="u", session_id="s", overrides={"holdout": "in"}, explain=True))
    assert ids(answer) == [f"i{n}" for n in range(9)]
    assert (answer["tier"], answer["arms"], answer["degraded"]) == ("base", {"holdout": "in"}, [])
    assert answer["items"][0]["why"] == {"base": 1.0}
    assert answer["timings_ms"].keys() >= {"features", "blend", "holdout"}
    flags(api, holdout=0.5)
    for number in range(20):
        user = f"user-{number}"
        arms = rank(api, body(3, user_id=user))["arms"]
        assert arms == ({"holdout": "in"} if fraction("holdout", user) < 0.5 else {})


def test_an_arm_changes_the_flags_of_its_units_only(shop: Any, api: httpx.Client, body: Body) -> None:
    arms = {
        "control": {},
        "tight": {"flags": {"cap.positions": 0}},
        "off": {"flags": {"personalization": False}},
    }
    flags(api, experiments=[{"name": "cap-test", "arms": arms}])
    request = body(user_id="u", session_id="s")
    control = rank(api, {**request, "overrides": {"cap-test": "control"}})
    tight = rank(api, {**request, "overrides": {"cap-test": "tight"}})
    off = rank(api, {**request, "overrides": {"cap-test": "off"}})
    assert ids(control) != ids(tight) == ids(off) == [f"i{n}" for n in range(9)]
    assert (tight["arms"], tight["tier"], off["tier"]) == ({"cap-test": "tight"}, "session+long_term", "base")
    assert rank(api, request)["arms"]["cap-test"] in arms


def test_exposed_units_and_a_broken_split_are_counted(api: httpx.Client, body: Body) -> None:
    flags(api, experiments=[{"name": "even", "arms": {"a": {}, "b": {}}}], holdout=0.3)
    for number in range(150):
        rank(api, body(2, user_id=f"user-{number}"))
    rank(api, body(2, user_id="user-0"))
    text = api.get("/metrics").text
    units = {
        line.partition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("headrace_experiment_units{")
    }
    assert sum(v for k, v in units.items() if 'experiment="holdout"' in k) == 150
    even = sum(v for k, v in units.items() if 'experiment="even"' in k)
    held = next(v for k, v in units.items() if 'arm="in"' in k)
    assert even == 150 - held
    assert 'headrace_sample_ratio_mismatch{experiment="even"} 0.0' in text


def test_a_split_that_loses_units_on_the_way_is_a_mismatch(api: httpx.Client, body: Body) -> None:
    even = Experiment(name="even", arms={"a": Arm(), "b": Arm()})
    flags(api, experiments=[{"name": "even", "arms": {"a": {}, "b": {}}}])
    users = [f"user-{n}" for n in range(200)]
    arms = {user: assign([even], 0.0, user, None).arms["even"] for user in users}
    kept = [user for user in users if arms[user] == "a" or fraction("lost", user) < 0.3]
    for user in kept:
        assert rank(api, body(2, user_id=user))["arms"] == {"even": arms[user]}
    text = api.get("/metrics").text
    for arm in "ab":
        count = [arms[user] for user in kept].count(arm)
        assert f'headrace_experiment_units{{arm="{arm}",experiment="even"}} {count}.0' in text
    assert 'headrace_sample_ratio_mismatch{experiment="even"} 1.0' in text


def rules(shop: Any, *declared: dict[str, Any]) -> None:
    (shop.home.flags / "rules.json").write_text(json.dumps({"rules": declared}))


def test_rules_apply_to_everyone_and_say_what_they_dropped(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]
) -> None:
    rules(
        shop,
        {"kind": "exclude", "name": "no hats", "attributes": ["category:hats"]},
        {"kind": "pin", "name": "campaign", "items": ["i8"]},
    )
    plain = until(lambda: (a := rank(api, body())) and a["dropped"] and a)
    assert ids(plain) == ["i8", "i0", "i2", "i3", "i5", "i6"]
    assert plain["dropped"] == [{"item_id": f"i{n}", "rule": "no hats"} for n in (1, 4, 7)]
    personal = rank(api, body(user_id="u", session_id="s", explain=True))
    assert ids(personal)[0] == "i8"
    assert personal["tier"] == "session+long_term"
    assert sorted(ids(personal)) == sorted(ids(plain))
    for item in personal["items"]:
        assert sum(item["why"].values()) == pytest.approx(item["score"])


def test_malformed_rules_leave_the_last_good_ones(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]
) -> None:
    rules(shop, {"kind": "exclude", "name": "one", "items": ["i0"]})
    until(lambda: rank(api, body())["dropped"])
    (shop.home.flags / "rules.json").write_text("{")
    until(lambda: 'headrace_reload_failures_total{what="rules"} 1.0' in api.get("/metrics").text)
    assert rank(api, body())["dropped"] == [{"item_id": "i0", "rule": "one"}]


def aged(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make items as old as their number; only i0, i1 and i2 have engagement."""
    plain = shop._item

    def item(number: int, *arguments: Any) -> dict[str, Any]:
        row: dict[str, Any] = plain(number, *arguments)
        return {**row, "age_days": float(number), "popularity_long": 9.0 if number < 3 else 0.0}

    monkeypatch.setattr(shop, "_item", item)
    shop.build()


def diversity(count: int) -> float:
    """Mean dissimilarity of the first items, half by category (number mod 3) and half by vector (mod 2)."""
    pairs = list(itertools.combinations(range(count), 2))
    return sum(1 - ((a % 3 == b % 3) + (a % 2 == b % 2)) / 2 for a, b in pairs) / len(pairs)


def samples(text: str) -> dict[str, float]:
    """Return the page metrics of a scrape, by name and arm."""
    found = re.findall(r'^headrace_page_(\w+){arm="([^"]+)"} (.+)$', text, re.MULTILINE)
    return {f"{name} {arm}": float(value) for name, arm, value in found if not name.endswith("_created")}


def test_figures_of_the_page_by_arm(
    shop: Any,
    serving: Callable[..., Any],
    body: Body,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aged(shop, monkeypatch)
    shop.flags(experiments=[{"name": "even", "arms": {"a": {}, "b": {}}}])
    arms = ({"even": "a"}, {"even": "a"}, {"even": "b"}, {"holdout": "in"})
    counts = (9, 3, 3, 6)  # candidates, i0 the first
    with serving(shop.settings) as api:
        for overrides, count in zip(arms, counts, strict=True):
            rank(api, {**body(count, user_id="u", session_id="s"), "overrides": overrides})
        found = until(
            lambda: (s := samples(api.get("/metrics").text)).get("diversity_count holdout:in") == 1 and s
        )
    expected = {"even:a": (9, 3), "even:b": (3,), "holdout:in": (6,)}
    for arm, pages in expected.items():
        assert found[f"category_coverage_sum {arm}"] == len(pages)
        assert found[f"mean_age_days_sum {arm}"] == pytest.approx(sum((n - 1) / 2 for n in pages))
        assert found[f"popular_share_sum {arm}"] == pytest.approx(sum(3 / n for n in pages))
        assert found[f"diversity_sum {arm}"] == pytest.approx(sum(map(diversity, pages)))
        for figure in ("category_coverage", "diversity", "mean_age_days", "popular_share"):
            assert found[f"{figure}_count {arm}"] == len(pages)
    assert {name.split()[1] for name in found} == set(expected)


def test_the_metarank_shape(api: httpx.Client) -> None:
    ranking = {
        "id": "m1",
        "timestamp": 1717243200000,
        "user": "u",
        "session": "s",
        "items": [{"id": f"i{n}", "relevancy": 9.0 - n} for n in range(9)],
    }
    answer = api.post("/rank/any-model", json=ranking).raise_for_status().json()
    own = rank(
        api,
        {
            "user_id": "u",
            "session_id": "s",
            "candidates": [{"item_id": f"i{n}", "score": 9.0 - n} for n in range(9)],
        },
    )
    assert [item["item"] for item in answer["items"]] == ids(own)
    event = {
        "event": "interaction",
        "id": "x1",
        "timestamp": "1717243200000",
        "user": "u",
        "session": "s",
        "type": "click",
        "item": "i1",
        "ranking": "m1",
    }
    assert api.post("/feedback", json=event).status_code == 200
    assert api.post("/rank/any-model", content=b"{").json()["error"]["code"]
