"""Guarantees in every case: rules from the first answer on, held-out units, bounded waiting, files."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any

import httpx
import pytest

from feature_repo.errors import StoreError
from feature_repo.lake.lake import Builds
from feature_repo.settings import Settings
from serving.app import create_app
from serving.pipeline.blend import BlendStage

Body = Callable[..., dict[str, Any]]


def ask(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/v1/rank", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def block(shop: Any, *items: str) -> None:
    rule = {"kind": "exclude", "name": "blocked", "items": list(items)}
    (shop.home.flags / "rules.json").write_text(json.dumps({"rules": [rule]}))


def test_rules_hold_before_the_first_watch(
    shop: Any, serve_app: Callable[..., Any], body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.services.FLAGS_INTERVAL_S", 3600.0)
    block(shop, "i0")
    with serve_app(create_app(shop.settings)) as client:
        answer = ask(client, body(user_id="u", session_id="s"))
    assert answer["dropped"] == [{"item_id": "i0", "rule": "blocked"}]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rules_hold_when_a_blend_is_nonsense(
    shop: Any, serving: Callable[..., Any], body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "serving.scoring.blend.MOST_WEIGHT", float("inf")
    )  # the door that would refuse it is open
    block(shop, "i0")
    shop.blend("2", **{"base": 1e308, "log_odds:category": 1e308})
    with serving(shop.settings) as client:
        answer = ask(client, body(user_id="u", session_id="s", limit=3))
    assert "order_invalid" in answer["degraded"]
    assert [item["item_id"] for item in answer["items"]] == ["i1", "i2", "i3"]
    assert answer["dropped"] == [{"item_id": "i0", "rule": "blocked"}]


def test_a_part_that_cannot_be_read_at_start_leaves_the_base_order(
    shop: Any, serve_app: Callable[..., Any], body: Body
) -> None:
    app = create_app(shop.settings)
    stream = app.state.services.parts.stream
    stream._read = lambda: (_ for _ in ()).throw(TypeError("a heartbeat without time zone"))
    with serve_app(app) as client:
        assert ask(client, body(user_id="u"))["tier"] == "long_term"


def test_the_metrics_of_checks_and_drift_are_shown(api: httpx.Client, shop: Any) -> None:
    gate = shop.home.quality / "gate"
    gate.mkdir(parents=True, exist_ok=True)
    text = api.get("/metrics").text
    assert "headrace_gate_blocked" in text
    assert "headrace_drift" in text


class _StuckDoor:
    """A door whose log hangs until released."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def accept(self, raws: Any, source: str) -> Any:
        self.release.wait(30)
        raise AssertionError(raws, source)


def test_a_hanging_event_log_refuses_beyond_its_bound_and_leaves_flags_and_ranking_alone(
    shop: Any, serve_app: Callable[..., Any], body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.api.events.MAX_WAITING", 8)
    door = _StuckDoor()
    app: Any = create_app(shop.settings)
    [events] = [cell.cell_contents for cell in app.hot["/v1/events"]["POST"].__closure__]
    events._door = door
    statuses: list[int] = []

    def post(client: httpx.Client) -> None:
        statuses.append(client.post("/v1/events", json=[{"event_id": "e"}]).status_code)

    with serve_app(app) as client:
        threads = [threading.Thread(target=post, args=(client,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        while len(statuses) < 4:
            threads[0].join(0.01)
        assert statuses[:4] == [503] * 4
        assert client.patch("/v1/flags", json={"personalization": False}).status_code == 200
        assert ask(client, body(user_id="u"))["degraded"] == ["personalization_off"]
        door.release.set()
        for thread in threads:
            thread.join(20)
    assert sorted(statuses) == [500] * 8 + [503] * 4


def test_a_batch_of_too_many_records_is_refused(api: httpx.Client) -> None:
    response = api.post("/v1/events", content=b"[" + b",".join([b"{}"] * 10_001) + b"]")
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "too_many_records"


def test_a_decision_whose_build_is_damaged_has_no_words_but_is_shown(
    api: httpx.Client, shop: Any, body: Body, until: Callable[..., Any]
) -> None:
    ask(api, body(user_id="u", request_id="r1"))
    build = Builds(shop.home.features).current("item_profile")
    assert build is not None
    build.path.write_bytes(b"no parquet")
    response = until(lambda: (r := api.get("/v1/decisions/r1")).status_code != 404 and r)
    assert response.status_code == 200
    assert response.json()["words"] == []


def test_a_long_list_of_blocked_items_is_not_in_every_record(
    api: httpx.Client, shop: Any, body: Body, until: Callable[..., Any]
) -> None:
    block(shop, *[f"blocked-{n}" for n in range(5000)], "i2")
    until(lambda: ask(api, body(user_id="u"))["dropped"])
    ask(api, body(user_id="u", request_id="r2"))
    response = until(lambda: (r := api.get("/v1/decisions/r2")).status_code == 200 and r)
    [rule] = response.json()["decision"]["rules"]["rules"]
    assert rule["items"] == ["i2"]


def test_a_held_out_user_keeps_the_base_order_when_time_runs_out(
    shop: Any, serving: Callable[..., Any], body: Body, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.flags(holdout=1.0)
    plain = BlendStage.run

    def late(self: BlendStage, context: Any) -> None:
        plain(self, context)
        sleep(max(context.deadline - perf_counter(), 0) + 0.001)

    with serving(settings.model_copy(update={"budget_ms": 400.0, "store_budget_ms": 300.0})) as client:
        monkeypatch.setattr(BlendStage, "run", late)
        answer = ask(client, body(user_id="u", session_id="s"))
    assert "budget_exceeded" in answer["degraded"]
    assert answer["tier"] == "base"
    assert [i["position"] for i in answer["items"]] == [i["base_position"] for i in answer["items"]]


def test_no_id_of_a_person_is_logged_or_counted(
    shop: Any,
    serve_app: Callable[..., Any],
    body: Body,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(keys: Any) -> Any:
        raise StoreError("online store: gone")

    def defective(_: BlendStage, context: Any) -> None:
        raise KeyError(context.request.user_id)

    app = create_app(shop.settings)
    caplog.set_level("DEBUG")
    shop.user("secret-user")
    shop.session("secret-session")
    event = {"event_id": "e1", "event_type": "click", "item_id": "i1", "event_time": "2024-06-01T12:00:00Z"}
    with serve_app(app) as client:
        ask(client, body(user_id="secret-user", session_id="secret-session"))
        app.state.services.store.read = gone
        ask(client, body(user_id="secret-user", session_id="secret-session"))
        client.post("/v1/events", json={**event, "user_id": "secret-user", "session_id": "secret-session"})
        client.post("/v1/events", json={**event, "user_id": "secret-user", "event_type": "?"})
        client.post("/v1/rank", json={"candidates": [{"item_id": "a"}] * 2, "user_id": "secret-user"})
        monkeypatch.setattr(BlendStage, "run", defective)
        assert "blend_failed" in ask(client, body(user_id="secret-user", session_id="s"))["degraded"]
        metrics = client.get("/metrics").text
    assert "headrace_ranks_total" in metrics
    assert "secret-" not in metrics
    ours = [r.getMessage() + str(r.exc_text or "") for r in caplog.records if not r.name.startswith("http")]
    assert ours
    assert not [line for line in ours if "secret-" in line]


def test_requests_in_flight_are_finished_before_the_end(
    shop: Any, serve_app: Callable[..., Any], body: Body, until: Callable[..., Any]
) -> None:
    app = create_app(shop.settings)
    store = app.state.services.store
    read, asked, release = store.read, threading.Event(), threading.Event()
    answers: list[dict[str, Any]] = []

    def slow(keys: Any) -> Any:
        asked.set()
        release.wait(20)
        return read(keys)

    with serve_app(app) as client:
        store.read = slow
        held = httpx.Client(base_url=client.base_url, timeout=20)
        thread = threading.Thread(target=lambda: answers.append(ask(held, body(user_id="u"))))
        thread.start()
        assert asked.wait(10)
        threading.Timer(0.3, release.set).start()  # shutdown is requested meanwhile
    thread.join(20)
    held.close()
    assert [a["tier"] for a in answers] == ["long_term"]
