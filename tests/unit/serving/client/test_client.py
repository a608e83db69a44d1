"""The client: answers, fallbacks and retries, against a transport that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import json
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client import AsyncRankClient, ClientError, RankClient, Ranking, Sent
from serving.client.protocol import Protocol

Handler = Callable[[httpx.Request], httpx.Response]
URL = "http://headrace.test"


def turned(request: httpx.Request) -> httpx.Response:
    """A service that reverses the order."""
    asked = json.loads(request.content)
    ids = [c["item_id"] for c in asked["candidates"]][::-1][: asked.get("limit")]
    n = len(asked["candidates"])
    items = [
        {"item_id": item_id, "score": 1.0, "position": place, "base_position": n - 1 - place}
        for place, item_id in enumerate(ids)
    ]
    return httpx.Response(
        200,
        json={
            "request_id": asked["request_id"],
            "items": items,
            "tier": "segment",
            "degraded": [],
            "ages": {"segment_profile": 3.5},
            "timings_ms": {"total": 1.0},
            "dropped": [],
            "arms": {},
        },
    )


def both(handler: Handler, call: Callable[[Any], Any], **options: Any) -> tuple[Any, Any]:
    """Make the same call through the sync and the async client."""
    with RankClient(URL, transport=httpx.MockTransport(handler), **options) as client:
        first = call(client)

    async def run() -> Any:
        async with AsyncRankClient(URL, transport=httpx.MockTransport(handler), **options) as other:
            return await call(other)

    return first, asyncio.run(run())


def ids(ranking: Ranking) -> list[str]:
    return [item.item_id for item in ranking.items]


def test_a_ranking_is_read() -> None:
    for ranking in both(turned, lambda c: c.rank(["a", "b", "c"], user_id="u", request_id="r")):
        assert ids(ranking) == ["c", "b", "a"]
        assert (ranking.request_id, ranking.tier, ranking.ages) == ("r", "segment", {"segment_profile": 3.5})
        assert ranking.fallback is None


def test_the_request_says_what_was_asked_and_nothing_else() -> None:
    seen: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return turned(request)

    both(keep, lambda c: c.rank([("a", 2.0), ("b", 1.0)], session_id="s", limit=1), api_key="secret")
    for request in seen:
        body = json.loads(request.content)
        body.pop("request_id")
        assert body == {
            "candidates": [{"item_id": "a", "score": 2.0}, {"item_id": "b", "score": 1.0}],
            "session_id": "s",
            "limit": 1,
        }
        assert request.headers["authorization"] == "Bearer secret"
        assert request.url.path == "/v1/rank"
    assert len(seen) == 2


def raising(error: type[Exception]) -> Handler:
    def handler(_: httpx.Request) -> httpx.Response:
        raise error("no")

    return handler


def answering(status: int, content: Any) -> Handler:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json=content)

    return handler


PROBLEM = {"error": {"code": "bad_value", "field": "limit", "message": "limit: too small"}}
STRANGER = {
    "request_id": "r",
    "items": [{"item_id": "zz", "score": 1.0, "position": 0, "base_position": 0}],
}
DOUBLED = {"request_id": "r", "items": [{"item_id": "a", "score": 1, "position": 0, "base_position": 0}] * 2}

LOST = {"request_id": "r", "items": [{"item_id": "a", "score": 1, "position": 0, "base_position": 0}]}


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (raising(httpx.ConnectError), "ConnectError"),
        (raising(httpx.ReadTimeout), "ReadTimeout"),
        (raising(httpx.RemoteProtocolError), "RemoteProtocolError"),
        (answering(500, {}), "http_error"),
        (answering(422, PROBLEM), "bad_value"),
        (answering(503, PROBLEM), "bad_value"),
        (answering(200, {"request_id": 3}), "bad_answer"),
        (answering(200, []), "bad_answer"),
        (answering(200, STRANGER), "bad_answer"),
        (answering(200, DOUBLED), "bad_answer"),
        (answering(200, LOST), "bad_answer"),
    ],
)
def test_whatever_goes_wrong_the_order_given_comes_back_and_says_why(handler: Handler, reason: str) -> None:
    for ranking in both(handler, lambda c: c.rank(["a", "b", "c"], limit=2, request_id="mine")):
        assert ids(ranking) == ["a", "b"]
        assert ranking.fallback == reason
        assert ranking.degraded == ["client_fallback"]
        assert ranking.request_id == "mine"
        assert [item.score for item in ranking.items] == [1.0, 0.5]


@given(st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=8), st.binary(max_size=60))
def test_no_answer_makes_it_raise_lose_or_invent(item_ids: list[str], garbage: bytes) -> None:
    with RankClient(
        URL, transport=httpx.MockTransport(lambda _: httpx.Response(200, content=garbage))
    ) as client:
        ranking = client.rank(item_ids)
    assert ids(ranking) == item_ids


def failing(times: int, then: Handler, status: int | None = None) -> tuple[Handler, list[int]]:
    count = [0]

    def handler(request: httpx.Request) -> httpx.Response:
        count[0] += 1
        if count[0] <= times:
            if status is None:
                raise httpx.ConnectError("refused")
            return httpx.Response(status, json=PROBLEM)
        return then(request)

    return handler, count


@pytest.mark.parametrize("status", [None, 429, 502, 503, 504])
def test_what_passes_is_tried_again(status: int | None) -> None:
    handler, count = failing(2, turned, status)
    with RankClient(URL, transport=httpx.MockTransport(handler), rank_timeout_s=5.0) as client:
        assert ids(client.rank(["a", "b"])) == ["b", "a"]
    assert count == [3]


def test_tries_are_bounded() -> None:
    handler, count = failing(99, turned)
    with RankClient(URL, transport=httpx.MockTransport(handler), attempts=2, rank_timeout_s=5.0) as client:
        assert client.rank(["a"]).fallback == "ConnectError"
    assert count == [2]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500])
def test_what_stays_wrong_is_asked_once(status: int) -> None:
    handler, count = failing(99, turned, status)
    with RankClient(URL, transport=httpx.MockTransport(handler), rank_timeout_s=5.0) as client:
        assert client.rank(["a"]).fallback is not None
        with pytest.raises(ClientError):
            client.send([])
    assert count == [2]


def test_a_late_answer_is_not_asked_for_again() -> None:
    count = [0]

    def late(_: httpx.Request) -> httpx.Response:
        count[0] += 1
        raise httpx.ReadTimeout("late")

    with RankClient(URL, transport=httpx.MockTransport(late)) as client:
        assert client.rank(["a"]).fallback == "ReadTimeout"
    assert count == [1]


def test_all_tries_share_one_timeout() -> None:
    given_s: list[float] = []

    def handler(request: httpx.Request) -> httpx.Response:
        given_s.append(request.extensions["timeout"]["read"])
        raise httpx.ConnectError("refused")

    with RankClient(URL, transport=httpx.MockTransport(handler), rank_timeout_s=5.0, attempts=4) as client:
        client.rank(["a"])
    assert len(given_s) == 4
    assert given_s == sorted(given_s, reverse=True)
    assert len(set(given_s)) == 4
    assert given_s[0] <= 5.0


@pytest.mark.parametrize(
    ("attempt", "left_s", "gives_up"), [(1, 0.9, False), (98, 0.3, False), (98, 0.0, True), (99, 0.9, True)]
)
def test_no_attempt_begins_where_the_time_would_be_over(attempt: int, left_s: float, gives_up: bool) -> None:
    for _ in range(100):
        pause = Protocol(attempts=99).pause_s(httpx.ConnectError("refused"), attempt, left_s, 1.0)
        assert (pause is None) is gives_up
        assert pause is None or 0.0 <= pause <= 0.25


def test_pauses_grow_with_the_attempts() -> None:
    protocol = Protocol(attempts=99)
    longest = [
        max(protocol.pause_s(httpx.ConnectError("refused"), n, 1.0, 1.0) or 0.0 for _ in range(300))
        for n in (1, 2, 3)
    ]
    assert longest == sorted(longest)
    assert longest[0] <= 0.04


def test_the_async_client_waits_no_longer_than_its_timeout_whatever_the_transport_does() -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> Ranking:
        transport = httpx.MockTransport(never)
        async with AsyncRankClient(URL, transport=transport, rank_timeout_s=0.02) as client:
            client._protocol.events_timeout_s = 0.02
            with pytest.raises(ClientError, match="no whole answer in time"):
                await client.send([{"event_id": "1"}])
            return await client.rank(["a", "b"])

    ranking = asyncio.run(asyncio.wait_for(run(), 60))
    assert (ids(ranking), ranking.fallback) == (["a", "b"], "ReadTimeout")


def test_events_are_sent_and_refusals_reported() -> None:
    rejected = [{"index": 1, "code": "missing_field", "field": "item_id", "message": "…"}]
    handler = answering(202, {"accepted": 1, "rejected": rejected})
    for sent in both(handler, lambda c: c.send([{"event_id": "1"}, {}])):
        assert sent == Sent(1, rejected)
    every = answering(422, {"accepted": 0, "rejected": rejected, **PROBLEM})
    for sent in both(every, lambda c: c.send([{}])):
        assert sent == Sent(0, rejected)


def test_events_that_cannot_be_delivered_are_said_so() -> None:
    with RankClient(
        URL, transport=httpx.MockTransport(raising(httpx.ConnectError)), events_timeout_s=0.2
    ) as client:
        with pytest.raises(ClientError, match="the service was not reached") as caught:
            client.send([{"event_id": "1"}])
        assert (caught.value.status, caught.value.code) == (0, "unreachable")
    with RankClient(
        URL, transport=httpx.MockTransport(answering(503, PROBLEM)), events_timeout_s=0.2
    ) as client:
        with pytest.raises(ClientError, match="limit: too small") as caught:
            client.send([{"event_id": "1"}])
        assert caught.value.status == 503


def test_items_that_a_rule_dropped_are_not_missed() -> None:
    answer = {**LOST, "dropped": [{"item_id": item_id, "rule": "out of stock"} for item_id in "bc"]}
    for ranking in both(answering(200, answer), lambda client: client.rank(["a", "b", "c"])):
        assert (ids(ranking), ranking.fallback) == (["a"], None)
        assert [d["item_id"] for d in ranking.dropped] == ["b", "c"]


@pytest.mark.parametrize("content", [[], {"accepted": "many"}])
def test_an_answer_to_events_that_makes_no_sense_is_an_error(content: Any) -> None:
    client = RankClient(URL, transport=httpx.MockTransport(answering(202, content)))
    with client, pytest.raises(ClientError, match="the answer is malformed") as caught:
        client.send([])
    assert caught.value.code == "bad_answer"


def test_a_closed_client_says_so() -> None:
    client = RankClient(URL, transport=httpx.MockTransport(turned))
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.rank(["a"])


def test_many_threads_share_one_client() -> None:
    transport = httpx.MockTransport(turned)
    with RankClient(URL, transport=transport, rank_timeout_s=30.0) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: ids(client.rank([f"a{n}", f"b{n}"])), range(64)))
    assert found == [[f"b{n}", f"a{n}"] for n in range(64)]


def test_a_forked_process_asks_over_connections_of_its_own() -> None:
    with RankClient(URL, transport=httpx.MockTransport(turned), rank_timeout_s=30.0) as client:
        assert ids(client.rank(["a", "b"])) == ["b", "a"]
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what this tests
            child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            os.write(write, " ".join(ids(client.rank(["a", "b"]))).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            assert answer.read() == "b a"
        assert os.waitpid(child, 0)[1] == 0
        assert ids(client.rank(["a", "b"])) == ["b", "a"]
