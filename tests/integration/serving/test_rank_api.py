"""`POST /v1/rank` over real HTTP, on the real SQLite store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from feature_repo.settings import Settings

Body = Callable[..., dict[str, Any]]


def rank(api: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    response = api.post("/v1/rank", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def top_category(answer: dict[str, Any]) -> set[int]:
    return {int(i[1:]) % 3 for i in ids(answer)[:3]}


def test_session_and_long_term(api: httpx.Client, body: Body) -> None:
    answer = rank(api, body(user_id="u", session_id="s", request_id="r1", explain=True))
    assert answer["request_id"] == "r1"
    assert (answer["tier"], answer["degraded"]) == ("session+long_term", [])
    assert top_category(answer) == {0}, "the session's category leads"
    assert sorted(ids(answer)) == [f"i{n}" for n in range(9)]
    assert answer["ages"].keys() == {"user_profile", "segment_profile", "session_profile", "item_profile"}
    assert 1 < answer["ages"]["session_profile"] < 20
    assert answer["timings_ms"].keys() >= {"consent", "features", "blend", "total"}
    for position, item in enumerate(answer["items"]):
        assert item["position"] == position
        assert item["base_position"] == int(item["item_id"][1:])
        assert sum(item["why"].values()) == pytest.approx(item["score"], abs=1e-9)


def test_long_term_without_a_session(api: httpx.Client, body: Body) -> None:
    answer = rank(api, body(user_id="u"))
    assert answer["tier"] == "long_term"
    assert top_category(answer) == {1}, "the user's category leads"
    assert "why" not in answer["items"][0]


def test_a_stranger_gets_the_segment_prior(api: httpx.Client, body: Body) -> None:
    answer = rank(api, body(user_id="nobody", session_id="none"))
    assert answer["tier"] == "segment"
    assert top_category(answer) == {2}, "everyone's category leads"


def test_an_anonymous_session_has_session_and_prior(api: httpx.Client, body: Body) -> None:
    answer = rank(api, body(session_id="s"))
    assert answer["tier"] == "session+segment"
    assert top_category(answer) == {0}


@pytest.mark.parametrize(
    ("fields", "degraded"),
    [({}, []), ({"user_id": "u", "session_id": "s", "consent": False}, ["consent_denied"])],
)
def test_nobody_named_or_consent_denied_is_the_base_order(
    api: httpx.Client, body: Body, fields: dict[str, Any], degraded: list[str]
) -> None:
    answer = rank(api, body(explain=True, **fields))
    assert ids(answer) == [f"i{n}" for n in range(9)]
    assert (answer["tier"], answer["degraded"], answer["ages"]) == ("base", degraded, {})
    assert answer["items"][0]["why"] == {"base": 1.0}


def test_an_unknown_item_keeps_its_base_score(api: httpx.Client, body: Body) -> None:
    request = body(user_id="u", session_id="s", explain=True)
    request["candidates"].insert(1, {"item_id": "never seen", "score": 8.5})
    answer = rank(api, request)
    item = next(i for i in answer["items"] if i["item_id"] == "never seen")
    assert {part for part, value in item["why"].items() if value} == {"base"}


def test_missing_scores_come_from_the_order(api: httpx.Client) -> None:
    answer = rank(api, {"candidates": [{"item_id": f"i{n}"} for n in (4, 2, 7)]})
    assert ids(answer) == ["i4", "i2", "i7"]
    assert [i["score"] for i in answer["items"]] == [1.0, 0.5, 0.0]


def test_limit_and_generated_id(api: httpx.Client, body: Body) -> None:
    answer = rank(api, body(user_id="u", session_id="s", limit=2))
    assert len(answer["items"]) == 2
    assert answer["request_id"]


def test_no_candidates(api: httpx.Client) -> None:
    assert rank(api, {"candidates": [], "user_id": "u", "session_id": "s"})["items"] == []


def test_expired_profiles_are_absent_and_say_so(shop: Any, api: httpx.Client, body: Body) -> None:
    shop.user("old", age=timedelta(days=91))
    answer = rank(api, body(user_id="old"))
    assert (answer["tier"], answer["degraded"]) == ("segment", ["user_expired"])


def test_a_new_build_and_a_new_blend_are_picked_up(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]
) -> None:
    before = api.get("/readyz").json()["personalization"]
    shop.blend("2", base=-1.0)
    until(lambda: api.get("/readyz").json()["personalization"]["blend"] == "2")
    assert ids(rank(api, body(user_id="u"))) == [f"i{n}" for n in reversed(range(9))]
    shop.build(datetime.now(UTC) - timedelta(hours=1))
    until(lambda: api.get("/readyz").json()["personalization"]["items"] != before["items"])
    assert rank(api, body(user_id="u"))["ages"]["item_profile"] > 3500


def test_before_the_first_build_the_base_order_serves(
    settings: Settings, serving: Callable[..., Any], body: Body
) -> None:
    with serving(settings) as client:
        answer = rank(client, body(user_id="u", session_id="s"))
        assert (answer["tier"], answer["degraded"]) == ("base", ["items_missing"])
        assert ids(answer) == [f"i{n}" for n in range(9)]
        ready = client.get("/readyz").json()
        assert ready["ready"] is True, "the base order needs nothing"
        assert (ready["personalization"]["items"], ready["personalization"]["blend"]) == (None, None)


def test_without_a_blend_the_base_order_serves(shop: Any, serving: Callable[..., Any], body: Body) -> None:
    (shop.home.models / "CURRENT").unlink()
    with serving(shop.settings) as client:
        answer = rank(client, body(user_id="u", session_id="s"))
        assert (answer["tier"], answer["degraded"]) == ("base", ["blend_missing"])


def test_consent_not_stated_means_what_the_settings_say(
    shop: Any, serving: Callable[..., Any], body: Body
) -> None:
    with serving(shop.settings.model_copy(update={"consent_default": False})) as client:
        assert rank(client, body(user_id="u"))["degraded"] == ["consent_denied"]
        assert rank(client, body(user_id="u", consent=True))["tier"] == "long_term"


def test_the_clock_of_the_settings_gives_the_ages(shop: Any, serving: Callable[..., Any], body: Body) -> None:
    with serving(shop.settings.model_copy(update={"clock_offset_s": 600.0})) as client:
        answer = rank(client, body(user_id="u"))
        assert 650 < answer["ages"]["user_profile"] < 700
