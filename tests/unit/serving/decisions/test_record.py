"""Decision records: sampling, hashing, and the bytes in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import LogError
from serving.control.reloading import NO_RULES, Model
from serving.control.rules import Exclude, Rules, items_of
from serving.decisions.hashing import hashed
from serving.decisions.record import (
    Answered,
    decision_of,
    decode_decision,
    encode_decision,
    record_of,
    sampled,
)
from serving.decisions.recorder import Recorder
from serving.monitoring.circuit_breaker import Breaker, BreakerRules
from serving.pipeline.context import RankContext, Row
from serving.pipeline.runner import Ranker
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import encode_answer

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def answered(
    request_id: str = "r", session: Row | None = None, rules: Rules = NO_RULES
) -> tuple[RankContext, Any]:
    ranker = Ranker([], lambda: Model(None, None, rules=rules), lambda: NOW, timedelta(seconds=9))
    request = RankRequest(
        candidates=[Candidate("a", 1.0), Candidate("b")], user_id="u", session_id="s", request_id=request_id
    )
    context = ranker.open(request, perf_counter())
    context.session, context.consented = session, True
    return context, asyncio.run(ranker.rank(context))


def made(request_id: str = "r", *, indent: int = 0, rules: Rules = NO_RULES) -> Answered:
    context, answer = answered(request_id, rules=rules)
    body = msgspec.json.format(msgspec.json.encode(context.request), indent=indent)
    return Answered(context, answer, encode_answer(answer)[1], body)


RULES = Rules((Exclude(name="blocked", items=("b", "elsewhere")),))


@pytest.mark.parametrize("rules", [NO_RULES, RULES])
@pytest.mark.parametrize("indent", [-1, 2])
def test_a_record_put_together_of_bytes_says_the_same(indent: int, rules: Rules) -> None:
    one = made(indent=indent, rules=rules)
    decision = decision_of(one.context, one.answer, "salt")
    one.answer.items.clear()
    again = decode_decision(record_of(one, "salt"))
    assert len(again.items) == len(again.candidates) == 2
    assert [items_of(rule) for rule in again.rules.rules] == [{"b"}] * len(rules.rules)
    assert again == msgspec.structs.replace(decision, items=again.items)
    assert (
        again.ranking == decode_decision(encode_decision(decision_of(*answered(rules=rules), "salt"))).ranking
    )


def test_of_a_body_only_the_candidates_are_recorded() -> None:
    one = made()
    body = b'{"user_id": "person-1", "query": "secret", ' + one.body[1:]
    assert record_of(Answered(one.context, one.answer, one.items, body), "salt") == record_of(one, "salt")


def test_a_record_survives_the_log() -> None:
    row = Row({"user_id": "u", "item_ids": ["a"], "item_weights": [0.1]}, NOW)
    decision = decision_of(*answered(session=row), "salt")
    again = decode_decision(encode_decision(decision))
    assert again == decision
    assert again.ranking == decision.ranking
    assert again.features["session"].values["item_weights"] == [0.1]


@pytest.mark.parametrize("consented", [True, False])
def test_what_consent_does_not_permit_is_left_out_and_named(consented: bool) -> None:
    context, answer = answered()
    context.request = msgspec.structs.replace(context.request, query="a secret", session_id=None)
    context.consented = consented
    raw = encode_decision(decision_of(context, answer, "salt"))
    decision = decode_decision(raw)
    assert (b"a secret" in raw) is consented
    assert (hashed("u", "salt").encode() in raw) is consented
    assert decision.withheld == ([] if consented else ["user", "query"])
    assert (decision.query, decision.user is None) == (("a secret", False) if consented else (None, True))


def test_a_query_of_nobody_is_kept() -> None:
    context, answer = answered()
    context.request = msgspec.structs.replace(context.request, query="hats", user_id=None, session_id=None)
    context.consented = False
    decision = decision_of(context, answer, "salt")
    assert (decision.query, decision.withheld) == ("hats", [])


def test_no_id_of_a_person_is_in_the_bytes() -> None:
    row = Row({"user_id": "person-1"}, NOW)
    context, answer = answered(session=row)
    context.request = msgspec.structs.replace(context.request, user_id="person-1", session_id="visit-1")
    raw = encode_decision(decision_of(context, answer, "salt"))
    assert b"person-1" not in raw
    assert b"visit-1" not in raw
    assert raw.count(hashed("person-1", "salt").encode()) == 2


def test_bytes_that_are_no_record() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_decision(b'{"record": "decision"}')


@given(st.text(), st.text(min_size=1), st.text(min_size=1, max_size=8))
def test_a_hash_is_stable_and_salted(first: str, second: str, salt: str) -> None:
    assert hashed(first, salt) == hashed(first, salt)
    assert len(hashed(first, salt)) == 24
    assert hashed(first, salt) != hashed(first, salt + "x")
    if first != second:
        assert hashed(first, salt) != hashed(second, salt)


def test_sampling_takes_its_share_and_always_the_same() -> None:
    ids = [f"request-{n}" for n in range(20_000)]
    chosen = [i for i in ids if sampled(i, 0.3)]
    assert 5_700 < len(chosen) < 6_300
    assert all(sampled(i, 0.6) for i in chosen), "a larger share contains the smaller"
    assert not any(sampled(i, 0.0) for i in ids)
    assert all(sampled(i, 1.0) for i in ids[:100])


class FakeLog:
    """A log in memory; may fail."""

    partitions = 1

    def __init__(self, fails: bool = False) -> None:
        self.records: list[tuple[str, bytes]] = []
        self.fails = fails
        self.asked = 0

    def publish(self, records: Sequence[tuple[str, bytes]]) -> None:
        self.asked += 1
        if self.fails:
            msg = "disk full"
            raise LogError(msg)
        self.records.extend(records)


def recorder_of(log: FakeLog, **more: Any) -> tuple[Recorder, list[Any]]:
    outcomes: list[Any] = []
    recorder = Recorder(log, "salt", outcomes.append, lambda *why: outcomes.append(why), **more)  # type: ignore[arg-type]
    return recorder, outcomes


def test_what_waits_is_written_before_the_end() -> None:
    log = FakeLog()
    recorder, outcomes = recorder_of(log)
    for number in range(300):
        recorder.offer(made(f"r{number}"))
    recorder.start()
    recorder.stop()
    assert [key for key, _ in log.records] == [f"r{n}" for n in range(300)]
    assert sum(outcomes) == 300
    assert [found.request_id for found in recorder.recent("r299")] == ["r299"]
    assert recorder.recent("never") == []


def test_an_id_that_is_used_again_hides_no_record() -> None:
    recorder, _ = recorder_of(FakeLog())
    first, second = made("again"), made("again")
    second.context.degraded.append("overload")
    for each in (first, second):
        recorder.offer(each)
    recorder.start()
    recorder.stop()
    assert [found.degraded for found in recorder.recent("again")] == [["overload"], []]


def test_only_so_many_bytes_of_records_are_remembered() -> None:
    size = len(record_of(made("r0"), "salt"))
    recorder, _ = recorder_of(FakeLog(), remembered_bytes=size * 3 + size // 2)
    for number in [0, 1, 2, 1, 3]:
        recorder.offer(made(f"r{number}"))
    recorder.start()
    recorder.stop()
    assert [n for n in range(5) if recorder.recent(f"r{n}")] == [1, 3], "two of the first"


def test_a_record_that_cannot_be_made_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    log = FakeLog()
    recorder, outcomes = recorder_of(log)
    good = made("good")
    recorder.offer(Answered(good.context, good.answer, good.items, b"no body"))
    recorder.offer(made("other"))
    recorder.start()
    recorder.stop()
    assert [key for key, _ in log.records] == ["other"]
    assert outcomes == [("broken", 1), 1]
    assert "'good'" in caplog.text


def test_a_failing_log_opens_its_breaker() -> None:
    log = FakeLog(fails=True)
    recorder, outcomes = recorder_of(log, breaker=Breaker("event_log", BreakerRules(volume=1, open_s=60)))
    recorder.start()
    deadline = perf_counter() + 10
    for number in range(3):
        recorder.offer(made(f"r{number}"))
        while len(outcomes) <= number and perf_counter() < deadline:
            pass
    recorder.stop()
    assert [why for why, _ in outcomes] == ["log_failed", "log_open", "log_open"]
    assert log.asked == 1


def test_only_what_goes_to_the_log_is_told() -> None:
    seen: list[str] = []
    room = len(record_of(made("r0"), "salt")) * 3 // 2  # of timings some have more digits
    recorder, outcomes = recorder_of(
        FakeLog(), queued_bytes=room, on_each=lambda context: seen.append(context.request_id)
    )
    for number in range(3):
        recorder.offer(made(f"r{number}"))
    broken = made("broken")
    recorder.offer(Answered(broken.context, broken.answer, broken.items, b"no body"))
    assert (seen, outcomes) == (["r0"], [("queue_full", 1)] * 2 + [("broken", 1)])


def test_a_callback_that_fails_loses_no_record(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: RankContext) -> None:
        msg = "figures"
        raise ValueError(msg)

    log = FakeLog()
    recorder, outcomes = recorder_of(log, on_each=broken)
    recorder.offer(made())
    recorder.start()
    recorder.stop()
    assert (len(log.records), outcomes) == (1, [1])
    assert "could not be measured: ValueError at test_record.py" in caplog.text
    assert "figures" not in caplog.text, "what it says may name a person"
