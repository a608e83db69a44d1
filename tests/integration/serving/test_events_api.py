"""`POST /v1/events` over real HTTP, into the real log and quarantine."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from feature_repo.contract.validation import decode
from feature_repo.errors import LogError
from feature_repo.home import Home
from feature_repo.settings import Settings
from serving.app import create_app
from streaming.log import open_log


def event(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "event_type": "click",
        "event_time": datetime.now(UTC).isoformat(),
        "session_id": "s",
        "item_id": "i1",
        **fields,
    }


def logged(settings: Settings) -> list[Any]:
    log = open_log(settings, Home(settings.home))
    batches = [log.read(p, log.start(p), 1000) for p in range(log.partitions)]
    log.close()
    return [decode(raw) for batch in batches for raw in batch.records]


def test_one_event(api: httpx.Client, shop: Any) -> None:
    response = api.post("/v1/events", json=event())
    assert (response.status_code, response.json()) == (202, {"accepted": 1, "rejected": []})
    assert [r.event_id for r in logged(shop.settings)] == ["e1"]


def test_a_batch_of_all_kinds(api: httpx.Client, shop: Any) -> None:
    records = [
        event(1, record="event"),
        {"record": "item", "item_id": "new", "categories": ["shoes"]},
        {"record": "user", "user_id": "u9", "consent": False},
    ]
    assert api.post("/v1/events", json=records).json() == {"accepted": 3, "rejected": []}
    assert sorted(r.kind for r in logged(shop.settings)) == ["event", "item", "user"]


def test_good_records_pass_and_bad_ones_are_quarantined_and_named(api: httpx.Client, shop: Any) -> None:
    response = api.post("/v1/events", json=[event(1), event(2, event_type="stare"), 7])
    assert response.status_code == 202
    answer = response.json()
    assert answer["accepted"] == 1
    assert [(r["index"], r["code"], r["field"]) for r in answer["rejected"]] == [
        (1, "unknown_event_type", "event_type"),
        (2, "not_an_object", ""),
    ]
    assert any(b"stare" in path.read_bytes() for path in shop.home.quarantine.rglob("*") if path.is_file())


def test_an_event_that_is_refused_is_a_422_with_field(api: httpx.Client) -> None:
    response = api.post("/v1/events", json={"event_id": "e1"})
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["code"], error["field"]) == ("missing_field", "event_type")


@pytest.mark.parametrize(("body", "code"), [(b"{", "not_json"), (b"3", "wrong_type"), (b"\xff", "not_json")])
def test_a_body_that_is_no_record(api: httpx.Client, body: bytes, code: str) -> None:
    response = api.post("/v1/events", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)


@pytest.mark.parametrize(
    "bad", [rb'"\ud800"', b'"\xff"', b"1" * 5000, b"1e999", b'{"deep": [1e999]}'], ids=range(5)
)
def test_one_unreadable_value_refuses_one_record(api: httpx.Client, shop: Any, bad: bytes) -> None:
    good = [json.dumps(event(number)).encode() for number in (1, 2)]
    odd = json.dumps(event(3, extra="HERE")).encode().replace(b'"HERE"', bad)
    response = api.post("/v1/events", content=b"[%s,%s,%s]" % (good[0], odd, good[1]))
    assert response.status_code == 202
    assert (response.json()["accepted"], [r["index"] for r in response.json()["rejected"]]) == (2, [1])
    assert sorted(r.event_id for r in logged(shop.settings)) == ["e1", "e2"]
    alone = api.post("/v1/events", content=odd)
    assert (alone.status_code, alone.json()["error"]["code"]) == (
        422,
        response.json()["rejected"][0]["code"],
    )


def test_null_is_absent(api: httpx.Client, shop: Any) -> None:
    records = [
        event(1, record=None, user_id=None, items=None, properties=None),
        {"record": "item", "item_id": "new", "title": None, "attributes": {"brand": None}},
    ]
    assert api.post("/v1/events", json=records).json() == {"accepted": 2, "rejected": []}
    nulls = dict.fromkeys(("user_id", "session_id", "query", "limit", "explain", "consent", "overrides"))
    ranked = api.post("/v1/rank", json={"candidates": [{"item_id": "i1", "score": None}], **nulls})
    assert ranked.status_code == 200, ranked.text


def test_feedback_keeps_the_good_neighbours_of_a_bad_time(api: httpx.Client, shop: Any) -> None:
    now = str(int(datetime.now(UTC).timestamp() * 1000))
    click = {"event": "interaction", "user": "u", "session": "s", "type": "click", "item": "p1"}
    events = [{**click, "id": f"c{n}", "timestamp": stamp} for n, stamp in enumerate((now, "²", now))]
    response = api.post("/feedback", json=events)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["accepted"], answer["status"]) == (2, "1 rejected")
    assert [(r["index"], r["code"], r["field"]) for r in answer["rejected"]] == [
        (1, "bad_value", "timestamp")
    ]
    assert sorted(r.event_id for r in logged(shop.settings)) == ["c0", "c2"]


def test_nothing_sent_nothing_taken(api: httpx.Client) -> None:
    response = api.post("/v1/events", json=[])
    assert (response.status_code, response.json()["accepted"]) == (202, 0)


class BrokenDoor:
    """A door whose log cannot be written."""

    def accept(self, *_: object, **__: object) -> None:
        msg = "disk full"
        raise LogError(msg)


def test_a_log_that_cannot_be_written_says_retry_and_ranking_goes_on(
    shop: Any, serve_app: Callable[..., Any], body: Callable[..., Any]
) -> None:
    app = create_app(shop.settings)
    app.state.services.door.accept = BrokenDoor().accept
    with serve_app(app) as client:
        response = client.post("/v1/events", json=event())
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        error = response.json()["error"]
        assert error["code"] == "log_unavailable"
        assert "send the same records again" in error["message"]
        assert client.post("/v1/rank", json=body(user_id="u")).json()["tier"] == "long_term"


def test_a_large_body_is_refused_before_it_is_read(shop: Any, serving: Callable[..., Any]) -> None:
    settings = shop.settings.model_copy(update={"max_body_bytes": 2048})
    with serving(settings) as client:
        for path in ("/v1/events", "/v1/rank"):
            response = client.post(path, content=b" " * 2049)
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "body_too_large"
            assert "HEADRACE_MAX_BODY_BYTES" in response.json()["error"]["message"]
            chunked = client.post(path, content=iter([b" " * 1500] * 3))
            assert chunked.status_code == 413
        assert client.post("/v1/events", content=json.dumps(event()).encode()).status_code == 202
