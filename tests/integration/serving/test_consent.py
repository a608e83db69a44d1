"""A user whose record denies consent gets the base order, whatever rows store and cache still hold."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from feature_repo.contract.validation import User
from tests.support.stream_support import publish, stream_to_end

Body = Callable[..., dict[str, Any]]
BASE = [f"i{n}" for n in range(9)]


def rank(api: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def personalized(answer: dict[str, Any]) -> bool:
    """Expect the base order with its reason."""
    if "consent_denied" not in answer["degraded"]:
        return bool(answer["tier"] == "session+long_term")
    assert [i["item_id"] for i in answer["items"]] == BASE
    assert (answer["tier"], answer["ages"]) == ("base", {})
    return False


def test_rows_that_came_back_are_not_used(shop: Any, serving: Callable[..., Any], body: Body) -> None:
    named, session_only = body(user_id="u", session_id="s"), body(session_id="s")
    with serving(shop.settings) as client:
        assert personalized(rank(client, named))
        publish(shop.settings, [User(user_id="u", consent=False)])
        stream_to_end(shop.settings)
        shop.user()  # a build made before the denial is materialized after it
        shop.session(user_id="u")
        assert not personalized(rank(client, named))
        assert not personalized(rank(client, session_only))
        assert not personalized(rank(client, {**named, "consent": True})), "the record is newest"
        publish(shop.settings, [User(user_id="u", consent=True)])
        stream_to_end(shop.settings)
        assert personalized(rank(client, named))
        assert rank(client, session_only)["tier"] == "session+segment"


def test_a_record_that_permits_counts_where_the_default_does_not(
    shop: Any, serving: Callable[..., Any], body: Body
) -> None:
    strict = shop.settings.model_copy(update={"consent_default": False})
    with serving(strict) as client:
        assert not personalized(rank(client, body(user_id="u", session_id="s")))
        publish(strict, [User(user_id="u", consent=True)])
        stream_to_end(strict)
        assert personalized(rank(client, body(user_id="u", session_id="s")))
        assert not personalized(rank(client, body(user_id="u", session_id="s", consent=False)))


@pytest.mark.redis
def test_copies_of_who_denied_do_not_serve_while_redis_is_paused(
    home: Any, own_redis: Any, make_shop: Callable[..., Any], serving: Callable[..., Any], body: Body
) -> None:
    shop = make_shop(
        online_store="redis", redis_url=SecretStr(own_redis.url), budget_ms=10_000, store_budget_ms=300
    )
    denying, other = body(user_id="u", session_id="s"), body(user_id="v", session_id="t")
    shop.user("v")
    shop.session("t")
    with serving(shop.settings) as here, serving(shop.settings) as there:
        for worker in (here, there):
            assert personalized(rank(worker, denying))
            assert personalized(rank(worker, other))
        record = {"record": "user", "user_id": "u", "consent": False}
        assert here.post("/v1/events", json=record).status_code == 202
        assert not personalized(rank(here, denying)), "the worker that received it, before the stream ran"
        stream_to_end(shop.settings)
        assert not personalized(rank(there, denying))
        own_redis.signal(signal.SIGSTOP)
        try:
            for worker in (here, there):
                assert not personalized(rank(worker, denying))
                answer = rank(worker, other)
                assert personalized(answer)
                assert "session_cached" in answer["degraded"]
        finally:
            own_redis.signal(signal.SIGCONT)


def test_a_refused_record_denies_nothing(api: httpx.Client, body: Body) -> None:
    record = {"record": "user", "user_id": "u", "consent": False, "attributes": 5}
    assert api.post("/v1/events", json=record).status_code == 422
    assert personalized(rank(api, body(user_id="u", session_id="s")))


def test_a_denial_by_an_event_ends_personalization_for_its_session_at_once(
    shop: Any, serving: Callable[..., Any], body: Body
) -> None:
    """Apply at once in the worker that received it, and in the others once the stream has read it."""
    here_and_there = body(user_id="u", session_id="s"), body(session_id="s"), body(user_id="u")
    event = {
        "event_id": "e1",
        "event_type": "view",
        "event_time": datetime.now(UTC).isoformat(),
        "session_id": "s",
        "item_id": "i1",
        "consent": False,
    }
    with serving(shop.settings) as here, serving(shop.settings) as there:
        assert here.post("/v1/events", json=event).status_code == 202
        assert [personalized(rank(here, asked)) for asked in here_and_there[:2]] == [False, False]
        assert rank(here, here_and_there[2])["tier"] == "long_term", (
            "other sessions of the user are not affected"
        )
        assert personalized(rank(there, here_and_there[0])), "it does not know of it"
        stream_to_end(shop.settings)
        assert [personalized(rank(there, asked)) for asked in here_and_there[:2]] == [False, False]
        assert rank(there, here_and_there[2])["tier"] == "long_term"
        again = {**event, "event_id": "e2", "event_time": datetime.now(UTC).isoformat(), "consent": True}
        assert here.post("/v1/events", json=again).status_code == 202
        stream_to_end(shop.settings)
        for worker in (here, there):
            assert personalized(rank(worker, here_and_there[0])), "given again, in the same session"
