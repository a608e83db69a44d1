"""`POST /v1/features`: Feast's answer, with ages and consent; Feast's own server is the oracle."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.online import OnlineRow, OnlineStore, online_path
from feature_repo.online.consent_rows import COMPLETE, CONSENT
from feature_repo.services import published
from feature_repo.settings import Settings
from serving.api.api_keys import Scope, new_key

CTR = {"features": ["item_profile:ctr"], "entities": {"item_id": ["i1"]}}


def ask(api: httpx.Client, **body: Any) -> dict[str, Any]:
    response = api.post("/v1/features", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refusal(api: httpx.Client, **body: Any) -> tuple[int, str, str, str]:
    response = api.post("/v1/features", json=body)
    error = response.json()["error"]
    return response.status_code, error["code"], error["field"], error["message"]


def named(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))


@pytest.fixture
def store(shop: Any) -> OnlineStore:
    found: OnlineStore = shop.store
    return found


def put(store: OnlineStore, group: str, key: str, age: timedelta = timedelta(0), **values: Any) -> None:
    store.write(all_groups()[group], [OnlineRow(key, values, datetime.now(UTC) - age)])


def feast_answer(settings: Settings, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of Feast's own feature server on the same store."""
    from feast.feature_server import get_app

    from feature_repo.feast_store import apply, feature_store

    home = Home(Path(settings.home))
    apply(settings, home)
    app = get_app(feature_store(settings, home))

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://feast") as client:
            return await client.post("/get-online-features", json=body)

    response = asyncio.run(post())
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "body",
    [
        {"features": ["item_profile:ctr", "item_profile:categories", "item_profile:title"]},
        {"features": ["item_profile:created_at", "item_profile:vector", "item_profile:numeric_values"]},
        {"features": ["item_profile:ctr"], "full_feature_names": True},
    ],
    ids=["plain", "times and lists", "full names"],
)
def test_the_answer_is_that_of_feasts_server(
    api: httpx.Client, store: OnlineStore, settings: Settings, body: dict[str, Any]
) -> None:
    made = datetime(2024, 5, 1, 1, 2, 3, tzinfo=UTC)
    full = {"title": "żółte buty", "categories": ["shoes"], "ctr": 0.125, "created_at": made}
    put(store, "item_profile", "i1", **full, vector=[0.5, -2.0], numeric_values=[1e300, float("inf")])
    put(store, "item_profile", "i2", timedelta(seconds=5), ctr=float("nan"), vector=[], numeric_values=[])
    asked = {**body, "entities": {"item_id": ["i1", "i2", "absent"]}}
    wanted, found = feast_answer(settings, asked), ask(api, **asked)
    names = [name.partition(":")[2] for name in body["features"]]
    if body.get("full_feature_names"):
        names = [f"item_profile__{name}" for name in names]
    assert found["metadata"]["feature_names"] == ["item_id", *names], "in the requested order"
    assert named(found) == named(wanted)


def test_a_feature_service_over_several_entities(api: httpx.Client, store: OnlineStore) -> None:
    put(store, "user_profile", "u1", segment="likes:shoes")
    put(store, "session_profile", "s1", user_id="u1", item_ids=["i1"])
    entities = {
        "user_id": ["u1", "u2"],
        "item_id": ["i1", "i2"],
        "segment": ["all", "all"],
        "session_id": ["s1", "s2"],
    }
    answer = ask(api, feature_service="ranking_v1", entities=entities, full_feature_names=True)
    columns = named(answer)
    assert columns["user_profile__segment"]["values"] == ["likes:shoes", None]
    assert columns["session_profile__item_ids"]["values"] == [["i1"], None]
    assert columns["session_profile__item_ids"]["statuses"] == ["PRESENT", "NOT_FOUND"]
    views = published()[0].views
    assert len(columns) == 4 + sum(len(view.features) for view in views)
    assert answer["views"].keys() == {view.view for view in views}


def test_ages_expiry_and_staleness_are_said_of_each_row(api: httpx.Client, store: OnlineStore) -> None:
    group = all_groups()["item_profile"]
    put(store, "item_profile", "fresh", timedelta(minutes=1), ctr=0.1)
    put(store, "item_profile", "old", group.freshness + timedelta(hours=1), ctr=0.2)
    put(store, "item_profile", "gone", group.ttl + timedelta(hours=1), ctr=0.3)
    keys = ["fresh", "old", "gone", "none"]
    answer = ask(api, features=["item_profile:ctr"], entities={"item_id": keys})
    ages = answer["views"]["item_profile"]
    assert ages["stale"] == [False, True, True, False]
    assert ages["expired"] == [False, False, True, False]
    assert ages["age_s"][0] == pytest.approx(60, abs=30)
    assert ages["age_s"][3] is ages["event_times"][3] is None
    told = datetime.fromisoformat(ages["event_times"][1])
    assert datetime.now(UTC) - told == pytest.approx(
        group.freshness + timedelta(hours=1), abs=timedelta(minutes=1)
    )
    column = named(answer)["ctr"]
    assert column["values"] == [0.1, 0.2, None, None]
    assert column["statuses"] == ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]


def test_rows_of_people_who_deny_consent_are_withheld(api: httpx.Client, store: OnlineStore) -> None:
    users = ["permits", "denies", "silent"]
    for user in users:
        put(store, "user_profile", user, segment="likes:hats")
        put(store, "session_profile", f"s-{user}", user_id=user, item_ids=["i1"])
    for user, stated in (("permits", True), ("denies", False)):
        store.write(CONSENT, [OnlineRow(user, {"permitted": stated}, datetime.now(UTC))])
    answer = ask(
        api,
        features=["user_profile:segment", "session_profile:item_ids"],
        entities={"user_id": users, "session_id": [f"s-{user}" for user in users]},
    )
    shown = {"user_profile": ("segment", "likes:hats"), "session_profile": ("item_ids", ["i1"])}
    for view, (name, value) in shown.items():
        assert named(answer)[name]["values"] == [value, None, value]
        assert named(answer)[name]["statuses"] == ["PRESENT", "NOT_FOUND", "PRESENT"]
        assert answer["views"][view]["withheld"] == [False, True, False]
        assert answer["views"][view]["age_s"][1] is None


def test_a_denial_at_the_door_holds_at_once(api: httpx.Client, store: OnlineStore) -> None:
    put(store, "user_profile", "u9", segment="likes:hats")
    body = {"features": ["user_profile:segment"], "entities": {"user_id": ["u9"]}}
    assert named(ask(api, **body))["segment"]["values"] == ["likes:hats"]
    denial = {"record": "user", "user_id": "u9", "consent": False}
    assert api.post("/v1/events", json=denial).status_code == 202
    assert named(ask(api, **body))["segment"]["values"] == [None]


def test_a_session_in_which_consent_was_refused_is_withheld(api: httpx.Client, store: OnlineStore) -> None:
    put(store, "session_profile", "refused")
    asked = {"features": ["session_profile:item_ids"], "entities": {"session_id": ["refused", "s"]}}
    assert ask(api, **asked)["views"]["session_profile"]["withheld"] == [True, False]


def test_a_store_that_may_have_lost_denials_shows_nothing_of_who_has_no_word_in_it(
    shop: Any, serving: Callable[..., Any]
) -> None:
    shop.store.write(CONSENT, [OnlineRow("permits", {"permitted": True}, datetime.now(UTC))])
    put(shop.store, "user_profile", "permits", segment="likes:hats")
    asked = {"features": ["user_profile:segment"], "entities": {"user_id": ["u", "permits"]}}
    with serving(shop.settings) as client:
        assert ask(client, **asked)["views"]["user_profile"]["withheld"] == [False, False]
    with sqlite3.connect(online_path(shop.home)) as file:
        file.execute("DELETE FROM headrace_marks WHERE name = ?", [COMPLETE])
    file.close()
    with serving(shop.settings) as client:
        assert ask(client, **asked)["views"]["user_profile"]["withheld"] == [True, False]


WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"entities": {}}, "bad_value", "features", "name one feature_service, or a list"),
    ({**CTR, "feature_service": "ranking_v1"}, "bad_value", "features", "name one feature_service, or"),
    ({**CTR, "features": ["item_profile:crt"]}, "unknown_feature", "features[0]", "did you mean ctr"),
    ({**CTR, "features": ["items:ctr"]}, "unknown_feature", "features[0]", "did you mean item_"),
    ({**CTR, "features": ["ctr"]}, "bad_value", "features[0]", "write view:feature"),
    (
        {"feature_service": "ranking_v9", "entities": {}},
        "unknown_feature",
        "feature_service",
        "did you mean ranking_v",
    ),
    (
        {**CTR, "entities": {"user_id": ["u"]}},
        "missing_field",
        "entities.item_id",
        "requested features need item_id",
    ),
    ({**CTR, "entities": {"item_id": ["i"], "user_id": ["u"]}}, "unknown_field", "entities", "leave it out"),
    (
        {
            "features": ["item_profile:ctr", "user_profile:segment"],
            "entities": {"item_id": ["i", "j"], "user_id": ["u"]},
        },
        "bad_value",
        "entities",
        "the lists differ in length",
    ),
    (
        {
            "features": ["item_profile:categories", "session_profile:categories"],
            "entities": {"item_id": ["i"], "session_id": ["s"]},
        },
        "ambiguous_feature",
        "full_feature_names",
        "both have 'categories'; set full_feature_names",
    ),
    ({"features": ["item_profile:ctr"]}, "missing_field", "entities", "missing required field"),
    ({**CTR, "entities": {"item_id": [1.5]}}, "wrong_type", "entities[...][0]", "got `float`"),
    ({**CTR, "rows": 1}, "unknown_field", "rows", "known are entities, feature_service, features"),
]


def test_what_is_wrong_is_named(api: httpx.Client) -> None:
    for body, code, field, words in WRONG:
        status, found_code, found_field, message = refusal(api, **body)
        assert (status, found_code, found_field) == (422, code, field), body
        assert words in message


def test_a_request_for_too_much_says_what_is_allowed(make_shop: Any, serving: Callable[..., Any]) -> None:
    with serving(make_shop(max_feature_values=10).settings) as api:
        entities = {"item_id": [f"i{n}" for n in range(11)]}
        status, code, _, message = refusal(api, features=["item_profile:ctr"], entities=entities)
        assert (status, code) == (422, "too_many_values")
        assert "11 with 1 features each are 11 values; a request may ask for 10" in message


def test_integer_keys_are_texts(api: httpx.Client, store: OnlineStore) -> None:
    put(store, "item_profile", "7", ctr=0.5)
    put(store, "item_profile", "07", ctr=0.9)
    answer = ask(api, features=["item_profile:ctr"], entities={"item_id": [7]})
    assert named(answer)["ctr"]["values"] == [0.5]


def test_a_key_with_the_scope_of_features_is_needed(make_shop: Any, serving: Callable[..., Any]) -> None:
    (reader, entry), (ranker, other) = new_key("reader", [Scope.FEATURES]), new_key("ranker", [Scope.RANK])
    with serving(make_shop(api_keys=f"{entry},{other}").settings) as api:
        found = [
            api.post("/v1/features", json=CTR, headers=headers).status_code
            for headers in ({"x-api-key": reader}, {"x-api-key": ranker}, {})
        ]
    assert found == [200, 403, 401]


@pytest.mark.redis
def test_a_store_that_is_gone_is_a_503_and_comes_back(
    own_redis: Any, make_shop: Any, serving: Callable[..., Any], until: Callable[..., Any]
) -> None:
    shop = make_shop(online_store="redis", redis_url=SecretStr(own_redis.url), features_budget_ms=5_000)
    with serving(shop.settings) as api:
        assert api.post("/v1/features", json=CTR).status_code == 200
        own_redis.stop()
        response = api.post("/v1/features", json=CTR)
        assert response.status_code == 503
        assert response.json()["error"]["code"] in {"store_failing", "store_late"}
        assert response.headers["retry-after"]
        own_redis.start()
        until(lambda: api.post("/v1/features", json=CTR).status_code == 200)
