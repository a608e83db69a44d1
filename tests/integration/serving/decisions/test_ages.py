"""Expired rows and a lagging heartbeat of the stream, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from feature_repo.errors import StoreError
from feature_repo.lake.lake import Build, Builds
from feature_repo.online import OnlineRow
from serving.app import create_app
from serving.bootstrap import scoring_stages
from serving.decisions.lookup import DecisionFinder
from serving.decisions.record import TOPIC
from serving.decisions.replay import model_of, replay
from serving.decisions.time_marks import marks_of
from serving.features.row_source import Key
from streaming.log import open_log
from streaming.sessions.heartbeat import Heartbeat, write_heartbeats
from tests.support.ranking_data import neighbours_table

Body = Callable[..., dict[str, Any]]
Until = Callable[..., Any]
GIVEN = [f"i{n}" for n in range(9)]


def rank(api: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def state(api: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/readyz").json()["personalization"]
    return found


def go_together(shop: Any, as_of: datetime) -> None:
    """Write a build of neighbours: sessions that touched i1 also touched i5."""
    builds, table = Builds(shop.home.features), neighbours_table({"i1": {"i5": 9.0}}, {"i1": 9})
    path = builds.write("item_neighbours", as_of, table)
    builds.promote("item_neighbours", Build(path, as_of, as_of, len(table)))


def test_items_grow_stale_and_expire(shop: Any, api: httpx.Client, body: Body, until: Until) -> None:
    request, now = body(user_id="u"), datetime.now(UTC)
    for age, codes, tier in (
        (timedelta(hours=27), ["items_stale"], "long_term"),
        (timedelta(days=89), ["items_stale"], "long_term"),
        (timedelta(days=400), ["items_expired"], "base"),
        (timedelta(hours=1), [], "long_term"),
    ):
        before = state(api)["items"]
        shop.build(now - age)
        until(lambda before=before: state(api)["items"] != before)
        answer = rank(api, request)
        assert (answer["degraded"], answer["tier"]) == (codes, tier)
        assert (ids(answer) == GIVEN) == (tier == "base")
        assert answer["ages"]["item_profile"] == pytest.approx(age.total_seconds(), abs=60.0)


def test_neighbours_expire_by_themselves(
    shop: Any, serving: Callable[..., Any], body: Body, until: Until
) -> None:
    shop.blend("together", base=1.0, covisit=20.0)
    at = datetime.now(UTC)
    times = [int(at.timestamp() * 1000)]
    shop._write("session_profile", "s", {"item_ids": ["i1"], "item_times_ms": times}, timedelta(seconds=1))
    go_together(shop, at - timedelta(days=100))
    with serving(shop.settings) as client:
        expired = rank(client, body(session_id="s"))
        assert (expired["degraded"], expired["tier"]) == (["neighbours_expired"], "session+segment")
        assert ids(expired) == GIVEN
        before = state(client)["items"]
        go_together(shop, at - timedelta(hours=2))
        until(lambda: state(client)["items"] != before)
        fresh = rank(client, body(session_id="s"))
        assert (fresh["degraded"], ids(fresh)[0]) == ([], "i5")
        for answer, hours in ((expired, 2400), (fresh, 2)):
            assert answer["ages"]["item_neighbours"] == pytest.approx(3600 * hours, abs=60.0)
            assert answer["ages"]["item_profile"] < 60.0


@pytest.mark.parametrize("asked", [(60, "items_stale"), (0, "items_expired")], ids=["then", "now"])
def test_a_replay_takes_the_ages_of_the_time_of_its_decision(
    shop: Any, serving: Callable[..., Any], body: Body, until: Until, asked: tuple[int, str]
) -> None:
    """Items from a hundred days ago are used by a request of sixty days ago, but not today."""
    days_back, code = asked
    shop.build(datetime.now(UTC) - timedelta(days=100))
    then = {"clock_offset_s": -timedelta(days=days_back).total_seconds()}
    with serving(shop.settings.model_copy(update=then)) as client:
        answer = rank(client, body(user_id="u", request_id="r1"))
    assert answer["degraded"] == [code]
    log = open_log(shop.settings, shop.home, TOPIC)
    finder = DecisionFinder(log, marks_of(shop.home.decisions, 1.0))
    decision = until(lambda: finder.find("r1"))
    log.close()
    again = replay(decision, scoring_stages(shop.settings), model_of(decision, shop.home))
    assert again.same
    assert (again.answer.tier, again.answer.ages) == (
        answer["tier"],
        {"item_profile": answer["ages"]["item_profile"]},
    )


def beat(shop: Any, silent_s: float, behind_s: float = 0.0) -> None:
    """Write a heartbeat of this age; one from the future does not age."""
    now = datetime.now(UTC)
    write_heartbeats(shop.store, [Heartbeat(0, None, now - timedelta(seconds=silent_s), behind_s)])


def test_a_stream_that_lags_turns_sessions_off_until_it_has_caught_up(
    shop: Any, api: httpx.Client, body: Body, until: Until
) -> None:
    request = body(user_id="u", session_id="s")
    off, on = (["stream_stale"], "long_term"), ([], "session+long_term")

    def answered() -> tuple[list[str], str]:
        answer = rank(api, request)
        assert ("session_profile" in answer["ages"]) == ("session" in answer["tier"])
        return answer["degraded"], answer["tier"]

    assert answered() == on, "no stream ever ran"
    beat(shop, 40.0)
    until(lambda: (state(api)["stream_lag_s"] or 0.0) >= 40.0)
    assert (answered(), state(api)["stream_stale"]) == (off, True), "silent for longer than the limit"
    for behind_s, expected, why in (
        (20.0, off, "below the limit, but not caught up"),
        (15.0, on, "half of the limit"),
        (29.0, on, "it takes the whole limit to turn them off again"),
        (31.0, off, "a backlog counts as lag, like silence"),
    ):
        beat(shop, -3600.0, behind_s)
        until(lambda wanted=behind_s: state(api)["stream_lag_s"] == wanted)
        assert answered() == expected, why
    beat(shop, 0.0)
    until(lambda: not state(api)["stream_stale"])
    assert answered() == on, "caught up"


class Out:
    """A store that fails."""

    async def read(self, keys: Sequence[Key]) -> list[OnlineRow | None]:
        raise StoreError("gone")

    async def close(self) -> None: ...


def test_what_was_bought_does_not_come_back_in_silence(
    shop: Any, serve_app: Callable[..., Any], body: Body, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = b'{"rules": [{"kind": "exclude", "name": "already bought", "bought": true}]}'
    (shop.home.flags / "rules.json").write_bytes(rule)
    shop.user("u", bought=["i1"])
    app = create_app(shop.settings)
    with serve_app(app) as client:
        answer = rank(client, body(user_id="u"))
        assert ([d["item_id"] for d in answer["dropped"]], answer["degraded"]) == (["i1"], [])
        shop.flags(personalization=False)
        until(lambda: not state(client)["personalization"])
        answer = rank(client, body(user_id="u"))
        assert (answer["dropped"], answer["degraded"]) == ([], ["personalization_off", "bought_unknown"])
        shop.flags(personalization=True)
        until(lambda: state(client)["personalization"])
        monkeypatch.setattr(app.state.services.source, "read", Out().read)
        answer = rank(client, body(user_id="new"))
        assert answer["dropped"] == []
        assert {"store_failing", "bought_unknown"} <= set(answer["degraded"])
