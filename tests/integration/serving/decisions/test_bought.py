"""The rule on purchases: those of the session, and within a day those of its user on every device."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from feature_repo.contract.validation import Event
from feature_repo.home import Home
from feature_repo.settings import Settings
from serving.bootstrap import scoring_stages
from serving.decisions.lookup import DecisionFinder
from serving.decisions.record import TOPIC
from serving.decisions.replay import model_of, replay
from serving.decisions.time_marks import marks_of
from streaming.log import open_log
from tests.support.stream_support import publish, stream_to_end

Body = Callable[..., dict[str, Any]]
RULE = b'{"rules": [{"kind": "exclude", "name": "already bought", "bought": true}]}'


def bought(item_id: str, session_id: str, age: timedelta = timedelta(minutes=1)) -> Event:
    return Event(
        event_id=f"{session_id}/{item_id}",
        event_type="purchase",
        event_time=datetime.now(UTC) - age,
        session_id=session_id,
        user_id="u",
        item_id=item_id,
    )


def dropped(api: httpx.Client, body: dict[str, Any]) -> dict[str, str]:
    answer = api.post("/v1/rank", json=body).raise_for_status().json()
    assert {i["item_id"] for i in answer["items"]}.isdisjoint(d["item_id"] for d in answer["dropped"])
    return {d["item_id"]: d["rule"] for d in answer["dropped"]}


@pytest.fixture
def ruled(shop: Any) -> Any:
    (shop.home.flags / "rules.json").write_bytes(RULE)
    return shop


def test_purchases_on_another_device_count_for_a_day(
    ruled: Any, serving: Callable[[Settings], Any], body: Body, settings: Settings
) -> None:
    publish(settings, [bought("i1", "phone"), bought("i2", "laptop")])
    stream_to_end(settings)
    both = {"i1": "already bought", "i2": "already bought"}
    with serving(settings) as client:
        assert dropped(client, body(user_id="u", session_id="phone")) == both
        assert dropped(client, body(user_id="u", session_id="new")) == both
        assert dropped(client, body(session_id="phone")) == {"i1": "already bought"}, "nobody named"
        assert dropped(client, body(user_id="v", session_id="new")) == {}
        assert dropped(client, body(user_id="u", consent=False)) == {}, "nothing is looked up"


def test_purchases_of_long_ago_are_those_of_the_profile(
    ruled: Any, serving: Callable[[Settings], Any], body: Body, settings: Settings
) -> None:
    publish(settings, [bought("i1", "phone")])
    stream_to_end(settings)
    ruled.user("u", bought=["i4", "i5"])
    with serving(settings) as client:
        found = dropped(client, body(user_id="u", session_id="new"))
        assert found == dict.fromkeys(("i1", "i4", "i5"), "already bought")
        assert dropped(client, body(user_id="v", session_id="new")) == {}


def test_a_replay_knows_what_was_bought(
    ruled: Any, serving: Callable[[Settings], Any], body: Body, settings: Settings, until: Callable[..., Any]
) -> None:
    publish(settings, [bought("i1", "phone")])
    stream_to_end(settings)
    with serving(settings) as client:
        dropped(client, body(user_id="u", session_id="new", request_id="r1"))
    home = Home(settings.home)
    log = open_log(settings, home, TOPIC)
    finder = DecisionFinder(log, marks_of(home.decisions, 1.0))
    decision = until(lambda: finder.find("r1"))
    log.close()
    assert decision.features["recent"].values["purchase_count"] == 1
    again = replay(decision, scoring_stages(settings), model_of(decision, home))
    assert again.same
    assert [d.item_id for d in again.answer.dropped] == ["i1"]
