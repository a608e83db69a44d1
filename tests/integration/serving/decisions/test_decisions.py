"""Decision records: written beside the answer, looked up, replayed byte for byte, asked what if."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from feature_repo.errors import LogError
from orchestration.cli import app as cli
from serving.app import create_app
from serving.bootstrap import scoring_stages
from serving.control.reloading import Model
from serving.decisions.hashing import hashed
from serving.decisions.lookup import DecisionFinder
from serving.decisions.reasons import in_words
from serving.decisions.record import TOPIC, Answered, Decision, encode_decision, record_of, sampled
from serving.decisions.recorder import Recorder
from serving.decisions.replay import Replayed, ReplayError, model_of, replay, with_changes
from serving.decisions.time_marks import marks_of
from serving.pipeline.runner import Ranker
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import RankedItem, encode_answer
from serving.scoring.blend import current_path
from streaming.log import open_log
from tests.support.command_imports import PLATFORM, loaded

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
    assert answered["words"][0].startswith(f"Item {decision.items[0].item_id} is at 1")
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


def what_if(shop: Any, decision: Decision, flags: Mapping[str, Any], blend: str | None = None) -> Replayed:
    model = with_changes(decision, model_of(decision, shop.home), shop.home, blend, flags)
    return replay(decision, scoring_stages(shop.settings), model)


def shown(again: Replayed) -> list[int]:
    return [int(item.item_id[1:]) for item in again.answer.items]


@pytest.mark.parametrize(
    ("weights", "flags", "expected"),
    [
        ("2", {}, ("session+long_term", [8, 7, 6, 5, 4])),
        (None, {"cap.positions": 0}, ("session+long_term", [0, 1, 2, 3, 4])),
        ("2", {"cap.positions": 4}, ("session+long_term", [0, 5, 1, 6, 4])),
        (None, {"weights": {"session": 0.0}}, ("session+long_term", [1, 4, 7, 0, 2])),
        (None, {"personalization": False}, ("base", [0, 1, 2, 3, 4])),
        ("2", {"personalization": False}, ("base", [0, 1, 2, 3, 4])),
        (None, {"tiers": ["base"]}, ("base", [0, 1, 2, 3, 4])),
        (None, {"tiers": ["long_term"]}, ("long_term", [1, 4, 7, 0, 2])),
        (None, {"diversity.per_category": 1}, ("session+long_term", [0, 1, 2, 3, 6])),
    ],
)
def test_what_if_something_else_had_held(
    shop: Any,
    decision: Decision,
    weights: str | None,
    flags: dict[str, Any],
    expected: tuple[str, list[int]],
) -> None:
    shop.blend("2", base=-1.0)
    assert [i.item_id for i in decision.items] == ["i0", "i3", "i6", "i1", "i4"]
    again = what_if(shop, decision, flags, weights)
    assert (again.answer.tier, shown(again)) == expected
    assert not again.same


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"holdout": 1.0}, "holdout: cannot be asked of a record: who is held out is drawn from ids"),
        (
            {"experiments": [{"name": "e", "arms": {"a": {}, "b": {}}}]},
            "experiments: cannot be asked of a record: who gets which arm is drawn from ids",
        ),
        ({"decision_share": 0.5}, "decision_share: cannot be asked of a record: it decides which answers"),
    ],
)
def test_what_a_record_cannot_tell_is_refused(
    shop: Any, decision: Decision, flags: dict[str, Any], why: str
) -> None:
    with pytest.raises(ReplayError) as caught:
        what_if(shop, decision, flags)
    assert str(caught.value).startswith(why)
    assert "\n" not in str(caught.value)


def of_one(shop: Any, until: Callable[..., Any], client: httpx.Client, body: dict[str, Any]) -> Decision:
    """Find the record of an answer to a body with a request id."""
    rank(client, body)
    found: Decision = until(lambda: recorded(shop, body["request_id"]))
    return found


def test_what_was_not_read_then_is_refused(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]
) -> None:
    """Without its inputs in the record, an unchanged replay would not be the alternative ranking."""
    asked = partial(of_one, shop, until, api)
    denied = asked(body(user_id="u", consent=False, request_id="denied"))
    for flags in ({"cap.positions": 0}, {"tiers": ["base"]}, {"exploration.share": 0.2}, {"weights": {}}):
        with pytest.raises(ReplayError, match=r"the stage blend did not complete .* \(consent_denied\)"):
            what_if(shop, denied, flags)
    with pytest.raises(ReplayError, match="weights: the stage blend did not complete"):
        what_if(shop, denied, {}, "1")
    assert what_if(shop, denied, {"personalization": False}).same
    api.patch("/v1/flags", json={"tiers": ["long_term", "base"]}).raise_for_status()
    fewer = asked(body(user_id="u", session_id="s", request_id="fewer"))
    assert (fewer.tier, fewer.features.keys()) == ("long_term", {"user", "segment"})
    with pytest.raises(ReplayError, match=r"tiers: session\+long_term was not permitted then"):
        what_if(shop, fewer, {"tiers": ["session+long_term", "base"]})
    assert what_if(shop, fewer, {"tiers": ["base"]}).answer.tier == "base"
    api.patch("/v1/flags", json={"personalization": False}).raise_for_status()
    off = asked(body(user_id="u", request_id="off"))
    with pytest.raises(ReplayError, match=r"personalization: was off .* \(personalization_off\)"):
        what_if(shop, off, {"personalization": True})


def test_a_stage_that_failed_then_is_not_asked(shop: Any, decision: Decision) -> None:
    completed = [name for name in decision.completed if name != "diversity"]
    failed = msgspec.structs.replace(decision, completed=completed, degraded=["diversity_failed"])
    with pytest.raises(ReplayError, match=r"^diversity: the stage diversity did .* \(diversity_failed\)$"):
        what_if(shop, failed, {"diversity.per_category": 1})
    assert shown(what_if(shop, failed, {"cap.positions": 0})) == [0, 1, 2, 3, 4]


def test_what_if_there_had_been_a_blend(
    shop: Any, serving: Callable[..., Any], body: Body, until: Callable[..., Any]
) -> None:
    """The stages that only it had skipped run too: diversity and exploration."""
    shop.blend("2", base=-1.0)
    current_path(shop.home.models).unlink()
    shop.flags(**{"exploration": {"share": 0.2, "slots": 10}, "diversity.per_category": 2})
    with serving(shop.settings) as client:
        asked = body(30, user_id="u", session_id="s", request_id="r")
        found = of_one(shop, until, client, asked)
    assert (found.tier, found.degraded, "exploration" in found.completed) == (
        "base",
        ["blend_missing"],
        False,
    )
    assert replay(found, scoring_stages(shop.settings), model_of(found, shop.home)).same
    again = what_if(shop, found, {}, "2")
    assert again.answer.tier == "session+long_term"
    assert {"diversity", "exploration"} <= set(again.context.completed)
    assert len(again.context.drawn) == 2


def test_what_if_the_arm_had_not_been_the_control(
    shop: Any, serving: Callable[..., Any], body: Body, until: Callable[..., Any]
) -> None:
    off = {"name": "e", "arms": {"control": {"flags": {"personalization": False}}, "treated": {}}}
    shop.flags(experiments=[off])
    with serving(shop.settings) as client:
        found = {
            name: of_one(shop, until, client, body(user_id="u", request_id=name, overrides=overrides))
            for name, overrides in (
                ("control", {"e": "control"}),
                ("treated", {"e": "treated"}),
                ("out", {"holdout": "in"}),
            )
        }
    assert {n: (d.arms, d.held_out, d.tier) for n, d in found.items()} == {
        "control": ({"e": "control"}, True, "base"),
        "treated": ({"e": "treated"}, False, "long_term"),
        "out": ({"holdout": "in"}, True, "base"),
    }
    for decision in found.values():
        assert replay(decision, scoring_stages(shop.settings), model_of(decision, shop.home)).same
    again = what_if(shop, found["control"], {"personalization": True})
    assert again.answer.items == found["treated"].items
    assert what_if(shop, found["treated"], {"personalization": False}).answer.items == found["control"].items
    assert what_if(shop, found["out"], {"cap.positions": 1}).same, "held out whatever the flags"


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


def altered(shop: Any, decision: Decision, request_id: str, items: list[RankedItem]) -> None:
    """Publish a record as another version might have made it from the same inputs."""
    record = msgspec.structs.replace(decision, request_id=request_id, items=items)
    log = open_log(shop.settings, shop.home, TOPIC)
    try:
        log.publish([(request_id, encode_decision(record))])
    finally:
        log.close()


def test_a_ranking_nobody_saw_is_not_explained(shop: Any, api: httpx.Client, decision: Decision) -> None:
    items = [decision.items[1], decision.items[0], *decision.items[2:]]
    altered(shop, decision, "older", items)
    found = recorded(shop, "older")
    assert found is not None
    with pytest.raises(ReplayError, match=r"^decision 'older': made again it is another ranking than"):
        in_words(found, scoring_stages(shop.settings), shop.home)
    answered = api.get("/v1/decisions/older").raise_for_status().json()
    assert [i["item_id"] for i in answered["decision"]["items"]] == [i.item_id for i in items]
    assert answered["words"] == [], "the record is there; reasons for another ranking are not"


def test_the_last_bits_of_a_score_leave_the_reasons(shop: Any, api: httpx.Client, decision: Decision) -> None:
    first = decision.items[0]
    score = math.nextafter(first.score, math.inf)
    altered(shop, decision, "bits", [msgspec.structs.replace(first, score=score), *decision.items[1:]])
    found = recorded(shop, "bits")
    assert found is not None
    assert not replay(found, scoring_stages(shop.settings), model_of(found, shop.home)).same
    assert len(api.get("/v1/decisions/bits").raise_for_status().json()["words"]) == 5


@pytest.mark.parametrize("request_id", ["a/b", "/", "a//b/", "http://x/y?z=1#q", "a b%2Fc", "é/ü"])
def test_every_id_that_can_be_ranked_can_be_looked_up(
    api: httpx.Client, body: Body, until: Callable[..., Any], request_id: str
) -> None:
    assert rank(api, body(3, user_id="u", request_id=request_id))["request_id"] == request_id
    path = f"/v1/decisions/{quote(request_id, safe='')}"
    found = until(lambda: (r := api.get(path)).status_code == 200 and r).json()
    assert found["decision"]["request_id"] == request_id
    assert len(found["words"]) == 3


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


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["replay", "r1", *arguments])


def test_the_command(shop: Any, decision: Decision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(shop.home.root))
    done = run()
    assert done.exit_code == 0, done.output
    assert "byte for byte" in done.output
    unknown = CliRunner().invoke(cli, ["replay", "r9"])
    assert isinstance(unknown.exception, ReplayError)
    assert "'r9'" in str(unknown.exception)
    wrong = run("--with", "colour=red")
    assert "weights=VERSION or flag=NAME:VALUE" in str(wrong.exception)
    refused = run("--with", "flag=holdout:1.0")
    assert isinstance(refused.exception, ReplayError)
    assert str(refused.exception).startswith("holdout: cannot be asked of a record")


def test_the_command_loads_what_ranks_and_no_platform(shop: Any, decision: Decision) -> None:
    found, said = loaded(shop.home.root, ("numba", *PLATFORM), ["replay", "r1"])
    assert "byte for byte" in said
    # numba imports scipy by itself, and pyarrow imports pandas as soon as there is an array.
    assert found == {"numba", "scipy", "pandas"}
    found, said = loaded(shop.home.root, PLATFORM, ["replay", "r9"])
    assert "no decision for request 'r9'" in said
    assert found == {"scipy"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["flag=cap.positions:0"], ("session+long_term", ["i0", "i1", "i2", "i3", "i4"])),
        (["flag=cap.positions=0"], ("session+long_term", ["i0", "i1", "i2", "i3", "i4"])),
        (["weights=2"], ("session+long_term", ["i8", "i7", "i6", "i5", "i4"])),
        (["flag=cap.positions:4", "weights=2"], ("session+long_term", ["i0", "i5", "i1", "i6", "i4"])),
        (["flag=personalization:false"], ("base", ["i0", "i1", "i2", "i3", "i4"])),
        (['flag=tiers:["base"]'], ("base", ["i0", "i1", "i2", "i3", "i4"])),
        (["flag=cap.positions:200"], ("session+long_term", None)),
    ],
)
def test_the_command_asked_what_if(
    shop: Any,
    decision: Decision,
    monkeypatch: pytest.MonkeyPatch,
    changes: list[str],
    expected: tuple[str, list[str] | None],
) -> None:
    tier, items = expected
    shop.blend("2", base=-1.0)
    monkeypatch.setenv("HEADRACE_HOME", str(shop.home.root))
    monkeypatch.setenv("COLUMNS", "160")
    done = run(*[part for change in changes for part in ("--with", change)])
    assert done.exit_code == 0, done.output
    assert "identical, byte for byte, to the ranking that was answered" in done.output
    assert f"with {', '.join(changes)}: tier {tier}" in " ".join(done.output.split())
    rows = [cells for line in done.output.splitlines() if (cells := line.split("│"))[1:]]
    assert [row[2].strip() for row in rows] == (items or [i.item_id for i in decision.items])
    assert ("the ranking would have been the same" in done.output) is (items is None)


def test_the_command_says_why_nothing_changes(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(shop.home.root))
    of_one(shop, until, api, body(user_id="u", request_id="r1", overrides={"holdout": "in"}))
    done = run("--with", "flag=cap.positions:1")
    assert done.exit_code == 0, done.output
    assert "would have been the same: its unit was held out" in " ".join(done.output.split())


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
    """A log that cannot be written, or that hangs until released."""

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
