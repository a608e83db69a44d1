"""The Metarank API, translated in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI, Request, Response

from feature_repo.contract.json_batch import Given, Refused
from feature_repo.contract.validation import Contract, Event, Item
from feature_repo.settings import BUILTIN_EVENT_WEIGHTS, Settings
from serving.api.api_keys import Scope
from serving.api.metarank import MetarankLimits, metarank_router
from serving.schemas.errors import ApiError
from serving.schemas.metarank_shape import from_answer, to_records, to_request
from serving.schemas.rank_request import RequestDecoder
from serving.schemas.rank_response import RankAnswer, RankedItem, Tier
from streaming.ingest.event_door import Rejection
from tests.conftest import NOW

ASKED = {
    "id": "r1",
    "timestamp": "1599391467000",
    "user": "u1",
    "session": "s1",
    "fields": [{"name": "query", "value": "jeans"}, {"name": "source", "value": 3}],
    "items": [{"id": "i3", "relevancy": 2.0}, {"id": "i1", "relevancy": 1}, {"id": "i2"}],
}
plain = partial(to_request, explain=False, most=2000)
ANSWER = RankAnswer(
    request_id="r1",
    items=[RankedItem("i1", 0.75, 0, 1, {"base": 0.5, "item": 0.25}), RankedItem("i3", 0.5, 1, 0)],
    tier=Tier.SEGMENT,
    degraded=[],
    ages={},
    timings_ms={"total": 2.6},
)


def test_a_request_becomes_one_of_ours_that_our_decoder_takes() -> None:
    body = to_request(msgspec.json.encode(ASKED), explain=True, most=2000)
    request = RequestDecoder(Settings()).decode(body)
    assert [(c.item_id, c.score) for c in request.candidates] == [("i3", 2.0), ("i1", 1.0), ("i2", None)]
    assert (request.request_id, request.user_id, request.session_id) == ("r1", "u1", "s1")
    assert request.query == "jeans"
    assert request.explain


def test_without_a_session_the_user_is_the_session_as_in_the_events() -> None:
    bare = {"id": "r", "items": [{"id": "a"}]}
    assert msgspec.json.decode(plain(msgspec.json.encode({**bare, "user": "u"}))) == {
        "request_id": "r",
        "candidates": [{"item_id": "a"}],
        "explain": False,
        "user_id": "u",
        "session_id": "u",
    }
    anonymous = msgspec.json.decode(plain(msgspec.json.encode(bare)))
    assert "session_id" not in anonymous


@pytest.mark.parametrize(
    ("body", "code", "field", "message"),
    [
        (b"{", "not_json", "", "not valid JSON in UTF-8"),
        (b"[]", "bad_value", "", "Expected `object`, got `array`; a ranking is {id, items"),
        (b'{"id": "r"}', "bad_value", "", "missing required field `items`"),
        (b'{"id": "r", "items": [{"id": 3}]}', "bad_value", "items[0].id", "Expected `str`, got `int`"),
    ],
)
def test_what_is_no_request_is_explained(body: bytes, code: str, field: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        plain(body)
    assert (caught.value.status, caught.value.code) == (422, code)
    assert caught.value.field == field
    assert message in str(caught.value)


def test_an_answer_becomes_one_of_theirs() -> None:
    assert msgspec.to_builtins(from_answer(ANSWER)) == {
        "items": [
            {
                "item": "i1",
                "score": 0.75,
                "features": [{"name": "base", "value": 0.5}, {"name": "item", "value": 0.25}],
            },
            {"item": "i3", "score": 0.5},
        ],
        "took": 3,
    }


CLICK = {
    "event": "interaction",
    "id": "e1",
    "timestamp": int(NOW.timestamp() * 1000),
    "user": "u1",
    "session": "s1",
    "type": "click",
    "item": "i1",
    "ranking": "r1",
}


def test_feedback_becomes_records_of_the_contract() -> None:
    item = {
        "event": "item",
        "id": "e2",
        "timestamp": "1",
        "item": "i9",
        "fields": [{"name": "price", "value": 4}],
    }
    records = to_records(msgspec.json.encode([CLICK, item]), BUILTIN_EVENT_WEIGHTS)
    contract = Contract(Settings(), lambda: NOW)
    event, described = (contract.parse(r) for r in records if not isinstance(r, Refused))
    assert isinstance(event, Event)
    assert (event.event_type, event.item_id, event.request_id) == ("click", "i1", "r1")
    assert isinstance(described, Item)
    assert described.price == 4.0


def test_what_cannot_be_translated_goes_on_as_it_came_with_the_reason() -> None:
    records = to_records(b'[{"event": "dance"}, 3]', BUILTIN_EVENT_WEIGHTS)
    assert [(r.raw, r.error.code, r.error.field, r.format) for r in records if isinstance(r, Refused)] == [
        (b'{"event":"dance"}', "bad_value", "event", "metarank"),
        (b"3", "not_an_object", "", "metarank"),
    ]
    assert len(to_records(msgspec.json.encode(CLICK), BUILTIN_EVENT_WEIGHTS)) == 1


BAD_STAMPS = ["²", "--1", "-", "1" * 5000, "1_000", "１２", "", None, True, [], {}, 1e300, "soon"]


@pytest.mark.parametrize("stamp", BAD_STAMPS, ids=lambda s: repr(s)[:12])
def test_a_bad_timestamp_refuses_its_record_and_no_other(stamp: Any) -> None:
    events = [{**CLICK, "id": "e0"}, {**CLICK, "timestamp": stamp}, {**CLICK, "id": "e2"}]
    first, bad, last = to_records(msgspec.json.encode(events), BUILTIN_EVENT_WEIGHTS)
    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert isinstance(bad, Refused)
    assert bad.error.field == "timestamp"
    assert msgspec.json.decode(bad.raw) == events[1]


def test_half_a_character_refuses_its_record_and_no_other() -> None:
    body = b"[%s,%s,%s]" % (msgspec.json.encode(CLICK), b'{"event":"\\ud800"}', msgspec.json.encode(CLICK))
    first, bad, last = to_records(body, BUILTIN_EVENT_WEIGHTS)
    assert isinstance(bad, Refused)
    assert first == last != bad


def test_the_relevancy_may_be_a_field_of_the_item() -> None:
    def named(item: str, value: Any) -> dict[str, Any]:
        return {"id": item, "fields": [{"name": "x", "value": [1]}, {"name": "relevancy", "value": value}]}

    asked = {
        "id": "q",
        "fields": None,
        "items": [named("i1", 1), named("i2", 2.5), named("i3", None), {"id": "i4", "fields": None}],
    }
    request = RequestDecoder(Settings()).decode(plain(msgspec.json.encode(asked)))
    assert [(c.item_id, c.score) for c in request.candidates] == [
        ("i1", 1.0),
        ("i2", 2.5),
        ("i3", None),
        ("i4", None),
    ]
    both = {"id": "q", "items": [{**named("i1", 1), "relevancy": 3.0}]}
    request = RequestDecoder(Settings()).decode(plain(msgspec.json.encode(both)))
    assert request.candidates[0].score == 3.0
    for wrong in ("high", True, [1]):
        bad = {"id": "q", "items": [{"id": "i0"}, named("i1", wrong)]}
        with pytest.raises(ApiError, match=r"items\[1\].fields: relevancy .* is not a number") as caught:
            plain(msgspec.json.encode(bad))
        assert (caught.value.code, caught.value.field) == ("wrong_type", "items[1].fields")


@pytest.mark.parametrize(("body", "code"), [(b"nope", "not_json"), (b'"text"', "wrong_type")])
def test_feedback_that_is_no_event_is_explained(body: bytes, code: str) -> None:
    with pytest.raises(ApiError, match="send one event object or an array of them") as caught:
        to_records(body, BUILTIN_EVENT_WEIGHTS)
    assert caught.value.code == code


class Took:
    """The answer of the door."""

    def __init__(self, rejected: Sequence[Any] = (), unkept: int = 0) -> None:
        self.accepted = 1
        self.rejected = rejected
        self.unkept = unkept


class Http:
    """Post to an application without a network."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def post(self, path: str, **options: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                return await http.post(path, **options)

        return asyncio.run(run())


def client(took: Took | None = None) -> tuple[Http, list[Any]]:
    seen: list[Any] = []
    took = took or Took()

    async def rank(headers: Any, body: bytes, arrived: float) -> RankAnswer:
        seen.append(msgspec.json.decode(body))
        if seen[-1]["request_id"] == "refused":
            raise ApiError(401, "unauthorized", "authorization", "no key")
        return ANSWER

    async def take(body: bytes, read: Callable[[bytes], list[Given]]) -> Took:
        seen.extend(read(body))
        return took

    def check(headers: Any, scope: Scope) -> None:
        if (b"x-refuse", scope.encode()) in headers:
            raise ApiError(401, "unauthorized", "authorization", "no key")

    app = FastAPI()
    app.include_router(metarank_router(rank, take, check, BUILTIN_EVENT_WEIGHTS, MetarankLimits(2000, 3)))

    @app.exception_handler(ApiError)
    async def problem(_: Request, error: ApiError) -> Response:
        return Response(error.body, error.status)

    return Http(app), seen


def test_the_routes_answer_in_their_shape() -> None:
    http, seen = client()
    answer = http.post("/rank/xgboost?explain=true", json=ASKED)
    assert answer.status_code == 200
    assert [row["item"] for row in answer.json()["items"]] == ["i1", "i3"]
    assert seen[0]["explain"] is True
    taken = http.post("/feedback", json=CLICK).json()
    assert {k: taken[k] for k in ("accepted", "status", "updated")} == {
        "accepted": 1,
        "status": "ok",
        "updated": 0,
    }
    assert seen[1]["event_type"] == "click"


def test_the_routes_pass_refusals_on_and_bound_their_bodies() -> None:
    http, _ = client()
    assert http.post("/rank/x", json={"id": "refused", "items": []}).status_code == 401
    assert http.post("/rank/x", content=b"[" + b" " * 3000 + b"]").status_code == 413
    assert http.post("/feedback", content=b"[" + b" " * 3000 + b"]").status_code == 413
    assert http.post("/rank/x", content=b"{").status_code == 422


@pytest.mark.parametrize(("path", "scope"), [("/rank/x?explain=perhaps", "rank"), ("/feedback", "events")])
def test_the_key_is_looked_at_before_anything_else(path: str, scope: str) -> None:
    http, seen = client()
    response = http.post(path, content=b"{" * 5000, headers={"x-refuse": scope})
    assert response.status_code == 401
    assert seen == []


def test_items_are_counted_before_they_are_translated() -> None:
    http, seen = client()
    items = [{"id": f"i{n}", "fields": [{"name": "relevancy", "value": "no number"}]} for n in range(4)]
    response = http.post("/rank/x", json={"id": "r", "items": items})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "too_many_candidates")
    assert "HEADRACE_MAX_CANDIDATES" in response.json()["error"]["message"]
    assert seen == []


def test_what_the_quarantine_could_not_keep_is_said() -> None:
    http, _ = client(Took([Rejection(0, "bad_value", "x", "x: wrong")], unkept=1))
    answer = http.post("/feedback", json=CLICK).json()
    assert answer["accepted"] == 1
    assert answer["status"].startswith("1 rejected; the quarantine cannot be written: 1 of the rejected")
