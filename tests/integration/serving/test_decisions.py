"""Decision records: written beside the answer, looked up, replayed byte for byte, asked what if."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from feature_repo.errors import LogError
from orchestration.cli import app as cli
from serving.answer import encode_answer
from serving.app import create_app
from serving.assembly import scoring_stages
from serving.decision import TOPIC, Answered, Decision, record_of, sampled
from serving.decision_marks import marks_of
from serving.hashing import hashed
from serving.live import Model
from serving.lookup import DecisionFinder
from serving.rank import Ranker
from serving.recorder import Recorder
from serving.replay import ReplayError, model_of, replay, with_changes
from serving.request import Candidate, RankRequest
from streaming.log import open_log

Body = Callable[..., dict[str, Any]]


def rank(api: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def recorded(shop: Any, request_id: str) -> Decision | None:
    log = open_log(shop.settings, shop.home, TOPIC)
    try:
        marks = marks_of(shop.home.decisions, shop.settings.log_retention_hours)
        return DecisionFinder(log, marks).find(request_id)
    finally:
        log.close()


@pytest.fixture
def decision(shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]) -> Decision:
    rank(api, body(user_id="secret-u", request_id="other"))
    rank(api, body(user_id="u", session_id="s", request_id="r1", explain=True, query="hats", limit=5))
    found: Decision = until(lambda: recorded(shop, "r1"))
    return found


def test_a_record_holds_what_made_the_answer(shop: Any, api: httpx.Client, decision: Decision) -> None:
    assert decision.record == "decision"
    assert [c.item_id for c in decision.candidates] == [f"i{n}" for n in range(9)]
    assert decision.features.keys() == {"user", "segment", "session"}
    assert decision.features["user"].values["segment"] == "likes:hats"
    assert (decision.query, decision.limit, decision.tier) == ("hats", 5, "session+long_term")
    assert (decision.versions.blend, decision.seed) == ("1", "r1")
    assert decision.completed[:5] == ["consent", "flags", "arm", "features", "blend"]
    answered = api.get("/v1/decisions/r1").json()
    assert [i["item_id"] for i in answered["decision"]["items"]] == [i.item_id for i in decision.items]
    assert len(answered["words"]) == 5
    assert answered["words"][0].startswith(f"Item {decision.items[0].item_id} stands at 1")
    assert "this session" in answered["words"][0]


def test_ids_of_people_are_hashed(shop: Any, decision: Decision) -> None:
    assert decision.user == hashed("u", "headrace")
    assert decision.session == hashed("s", "headrace")
    held = [p.read_bytes() for p in (shop.home.log / TOPIC).rglob("*") if p.is_file()]
    assert any(b'"r1"' in raw for raw in held)
    assert not any(b"secret-u" in raw for raw in held)


def test_a_replay_is_byte_for_byte(shop: Any, decision: Decision) -> None:
    again = replay(decision, scoring_stages(shop.settings), model_of(decision, shop.home))
    assert again.same
    assert [i.why for i in again.answer.items] == [i.why for i in decision.items]


def test_a_replay_uses_the_builds_of_its_time(shop: Any, decision: Decision) -> None:
    shop.blend("2", base=-1.0)
    shop.build(decision.time + timedelta(hours=1), ctr=0.9)
    assert replay(decision, scoring_stages(shop.settings), model_of(decision, shop.home)).same


def test_what_if_another_blend_had_served(shop: Any, decision: Decision) -> None:
    shop.blend("2", base=-1.0)
    model = with_changes(model_of(decision, shop.home), shop.home, "2", {})
    answer = replay(decision, scoring_stages(shop.settings), model).answer
    assert [i.item_id for i in answer.items] == [f"i{n}" for n in (8, 7, 6, 5, 4)]


def test_what_if_the_cap_had_been_tighter(shop: Any, decision: Decision) -> None:
    model = with_changes(model_of(decision, shop.home), shop.home, None, {"cap.positions": 0})
    answer = replay(decision, scoring_stages(shop.settings), model).answer
    assert [i.item_id for i in answer.items] == [f"i{n}" for n in range(5)]


def test_what_is_gone_is_said(shop: Any, api: httpx.Client, decision: Decision) -> None:
    (shop.home.models / "blend-1.json").unlink()
    with pytest.raises(ReplayError, match=r"blend-1\.json: no readable blend .* there are: none"):
        model_of(decision, shop.home)
    assert api.get("/v1/decisions/r1").json()["words"] == [], "the record is there, the reasons are not"
    shop.blend("1")
    next(shop.home.features.rglob("data.parquet")).unlink()
    with pytest.raises(ReplayError, match="needs the build of its time"):
        model_of(decision, shop.home)


def test_a_base_order_answer_replays_too(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]
) -> None:
    rank(api, body(user_id="u", consent=False, request_id="r2"))
    found = until(lambda: recorded(shop, "r2"))
    assert found.completed == ["consent", "cap", "holdout", "rules"]
    assert replay(found, scoring_stages(shop.settings), model_of(found, shop.home)).same


def test_words_name_what_placed_an_item(
    shop: Any, serving: Callable[..., Any], body: Body, until: Callable[..., Any]
) -> None:
    rules = [
        {"kind": "pin", "name": "campaign", "items": ["i7"], "position": 0},
        {"kind": "exclude", "name": "out of stock", "items": ["i2"]},
    ]
    (shop.home.flags / "rules.json").write_text(json.dumps({"rules": rules}))
    shop.flags(**{"exploration": {"share": 0.2, "slots": 10}})
    with serving(shop.settings) as client:
        answer = rank(client, body(30, user_id="u", session_id="s", request_id="r"))
        words = until(lambda: client.get("/v1/decisions/r").json().get("words"))
    shown = {i["item_id"]: said for i, said in zip(answer["items"], words, strict=False)}
    assert answer["items"][0]["item_id"] == "i7"
    assert "The rule 'campaign' placed it." in shown["i7"]
    assert sum("'campaign'" in said for said in words) == 1
    drawn = [i for i, said in shown.items() if "was drawn for it" in said]
    assert len(drawn) == 2
    chance = next(i["propensity"] for i in answer["items"] if i["item_id"] == drawn[0])
    assert f"it had a chance of {chance:.2%} for it" in shown[drawn[0]]
    assert words[-1] == "Item i2 was dropped by the rule 'out of stock'."


def test_an_unknown_decision_is_a_404(api: httpx.Client) -> None:
    response = api.get("/v1/decisions/nothing")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_decision")


def test_a_search_over_http_ends_within_its_bound(
    shop: Any, serve_app: Callable[..., Any], body: Body, until: Callable[..., Any]
) -> None:
    app = create_app(shop.settings)
    app.state.services.finder.most = 0
    with serve_app(app) as client:
        for n in range(32):
            rank(client, body(request_id=f"r{n}"))
        unknown = until(
            lambda: [r] if "whole log" in (r := client.get("/v1/decisions/none-such")).text else None
        )
    assert unknown[0].status_code == 404
    assert "among the newest records; `headrace replay` reads the whole log" in unknown[0].text


def test_the_command(shop: Any, decision: Decision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(shop.home.root))
    done = CliRunner().invoke(cli, ["replay", "r1"])
    assert done.exit_code == 0, done.output
    assert "byte for byte" in done.output
    what_if = CliRunner().invoke(cli, ["replay", "r1", "--with", "flag=cap.positions:0"])
    assert what_if.exit_code == 0
    assert "with flag=cap.positions:0: tier" in " ".join(what_if.output.split())
    assert "i4" in what_if.output
    unknown = CliRunner().invoke(cli, ["replay", "r9"])
    assert isinstance(unknown.exception, ReplayError)
    assert "'r9'" in str(unknown.exception)
    wrong = CliRunner().invoke(cli, ["replay", "r1", "--with", "colour=red"])
    assert "weights=VERSION or flag=NAME:VALUE" in str(wrong.exception)


def test_sampling(shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]) -> None:
    api.patch("/v1/flags", json={"decision_share": 0.5})
    ids = [f"q{n}" for n in range(40)]
    for request_id in ids:
        rank(api, body(3, user_id="u", request_id=request_id))
    chosen = [i for i in ids if sampled(i, 0.5)]
    assert 5 < len(chosen) < 35
    until(
        lambda: f'headrace_decisions_total{{outcome="written"}} {len(chosen)}.0' in api.get("/metrics").text
    )
    assert recorded(shop, chosen[0]) is not None


class BrokenLog:
    """A log that cannot be written, or that hangs until it is let go."""

    partitions = 1

    def __init__(self) -> None:
        self.hang: threading.Event | None = None

    def publish(self, _: Sequence[tuple[str, bytes]]) -> None:
        if self.hang is not None:
            self.hang.wait(20)
        msg = "disk full"
        raise LogError(msg)

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def test_an_unwritable_log_drops_and_counts_while_ranking_goes_on(
    shop: Any, serve_app: Callable[..., Any], body: Body, until: Callable[..., Any]
) -> None:
    app = create_app(shop.settings)
    app.state.services.decisions.publish = BrokenLog().publish
    with serve_app(app) as client:
        for _ in range(5):
            assert rank(client, body(user_id="u"))["tier"] == "long_term"
        until(
            lambda: 'headrace_decisions_dropped_total{reason="log_failed"} 5.0' in client.get("/metrics").text
        )


def test_a_hanging_log_fills_the_queue_and_holds_nobody(shop: Any) -> None:
    log, dropped = BrokenLog(), list[tuple[str, int]]()
    log.hang = threading.Event()
    made = made_answer()
    room = 3 * len(record_of(made, "salt"))
    recorder = Recorder(log, "salt", lambda _: None, lambda *why: dropped.append(why), queued_bytes=room)  # type: ignore[arg-type]
    recorder.start()
    for _ in range(10):
        recorder.offer(made)
    assert dropped == [("queue_full", 1)] * 7
    log.hang.set()
    recorder.stop()
    assert sum(count for why, count in dropped if why == "log_failed") == 3


def test_what_a_hanging_log_leaves_behind_is_counted_at_the_end() -> None:
    log, dropped = BrokenLog(), list[tuple[str, int]]()
    log.hang = threading.Event()
    recorder = Recorder(log, "salt", lambda _: None, lambda *why: dropped.append(why))  # type: ignore[arg-type]
    made = made_answer()
    for _ in range(5):
        recorder.offer(made)
    recorder.stop()
    assert dropped == [("shutdown", 5)], "the thread was never started"
    recorder.start()
    recorder.offer(made)
    recorder.stop(timeout_s=0.0)
    log.hang.set()
    recorder._thread.join(20)
    assert not recorder._thread.is_alive()
    assert [count for _, count in dropped] == [5, 1]


def made_answer() -> Answered:
    ranker = Ranker([], lambda: Model(None, None), lambda: datetime.now(UTC), timedelta(seconds=1))
    context = ranker.open(RankRequest(candidates=[Candidate("a")]), perf_counter())
    answer = asyncio.run(ranker.rank(context))
    return Answered(context, answer, encode_answer(answer)[1], b'{"candidates":[{"item_id":"a"}]}')
