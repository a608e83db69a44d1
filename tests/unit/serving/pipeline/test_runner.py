"""The runner: what stages can and cannot do to a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.control.reloading import Model
from serving.pipeline.context import Contributions, RankContext
from serving.pipeline.runner import Ranker
from serving.pipeline.stage import Stage
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import Dropped, RankAnswer, Tier

NOW = datetime(2024, 6, 1, tzinfo=UTC)


class Step:
    """A stage that calls a function."""

    def __init__(
        self, run: Callable[[RankContext], Awaitable[None] | None], name: str = "step", personal: bool = True
    ) -> None:
        self.name = name
        self.personal = personal
        self._run = run

    def run(self, context: RankContext) -> Awaitable[None] | None:
        return self._run(context)


def request_of(count: int = 3, **fields: object) -> RankRequest:
    return RankRequest(candidates=[Candidate(f"i{n}") for n in range(count)], **fields)  # type: ignore[arg-type]


def rank(request: RankRequest, *stages: Stage, budget_ms: float = 1000.0) -> RankAnswer:
    ranker = Ranker(stages, lambda: Model(None, None), lambda: NOW, timedelta(milliseconds=budget_ms))
    return asyncio.run(ranker.rank(ranker.open(request, perf_counter())))


def ids(answer: RankAnswer) -> list[str]:
    return [item.item_id for item in answer.items]


def reverse(context: RankContext) -> None:
    context.scores = -context.base.scores
    context.order = context.base.order[::-1]
    context.tier = Tier.LONG_TERM


def test_without_stages_the_base_order_is_answered() -> None:
    answer = rank(request_of(3, request_id="r1"))
    assert ids(answer) == ["i0", "i1", "i2"]
    assert (answer.request_id, answer.tier, answer.degraded) == ("r1", Tier.BASE, [])
    assert [(i.position, i.base_position) for i in answer.items] == [(0, 0), (1, 1), (2, 2)]


def test_a_request_without_id_gets_one_of_its_own() -> None:
    first, second = rank(request_of()), rank(request_of())
    assert first.request_id
    assert first.request_id != second.request_id


def test_no_candidates_no_items() -> None:
    assert rank(request_of(0), Step(reverse)).items == []


def test_a_stage_reorders_and_is_timed() -> None:
    answer = rank(request_of(3), Step(reverse))
    assert ids(answer) == ["i2", "i1", "i0"]
    assert answer.tier is Tier.LONG_TERM
    assert answer.items[0].base_position == 2
    assert answer.timings_ms.keys() == {"step", "total"}
    assert 0 <= answer.timings_ms["step"] <= answer.timings_ms["total"]


def test_limit_cuts_after_ranking() -> None:
    assert ids(rank(request_of(3, limit=2), Step(reverse))) == ["i2", "i1"]
    assert ids(rank(request_of(3, limit=9))) == ["i0", "i1", "i2"]


def test_a_stage_that_raises_is_skipped_and_named(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: RankContext) -> None:
        msg = "out of luck"
        raise ValueError(msg)

    with caplog.at_level(logging.ERROR):
        answer = rank(request_of(3), Step(broken, "luck"), Step(reverse))
    assert answer.degraded == ["luck_failed"]
    assert ids(answer) == ["i2", "i1", "i0"]
    assert "stage luck failed" in caplog.text


def test_of_a_failure_the_kind_and_the_place_are_logged_but_no_id(caplog: pytest.LogCaptureFixture) -> None:
    def look_up(user_id: str) -> None:
        raise KeyError(user_id)

    def broken(_: RankContext) -> None:
        try:
            look_up("secret-user")
        except KeyError as error:
            msg = f"{error} is not known"
            raise LookupError(msg) from error

    async def breaks(context: RankContext) -> None:
        look_up("secret-session")

    with caplog.at_level(logging.DEBUG):
        answer = rank(request_of(3, user_id="secret-user"), Step(broken, "one"), Step(breaks, "two"))
    assert answer.degraded == ["one_failed", "two_failed"]
    one, two = [r.getMessage() for r in caplog.records if "failed" in r.getMessage()]
    assert "LookupError at test_runner.py:" in one
    assert "KeyError at test_runner.py:" in two
    assert " look_up < test_runner.py:" in two
    assert not [r for r in caplog.records if r.exc_info or r.stack_info]
    assert "secret-" not in caplog.text


def test_a_stage_that_waits_is_cut_off_at_the_budget() -> None:
    reached = []

    async def waits(_: RankContext) -> None:
        await asyncio.sleep(60)
        reached.append(1)

    answer = rank(request_of(3), Step(waits, "store"), Step(reverse), budget_ms=20)
    assert answer.degraded == ["store_late", "budget_exceeded"]
    assert ids(answer) == ["i0", "i1", "i2"]
    assert not reached
    assert answer.timings_ms["total"] >= 20


def test_once_the_budget_is_spent_only_what_is_not_personal_runs() -> None:
    seen = []

    def burn(context: RankContext) -> None:
        context.deadline = perf_counter() - 1

    steps = [
        Step(burn, "burn"),
        Step(lambda _: seen.append("personal"), "blend"),
        Step(lambda _: seen.append("rules"), "rules", personal=False),
    ]
    answer = rank(request_of(), *steps)
    assert seen == ["rules"]
    assert answer.degraded == ["budget_exceeded"]


def test_a_settled_request_skips_what_is_personal() -> None:
    seen = []
    steps = [
        Step(lambda c: c.settle("consent_denied"), "consent"),
        Step(reverse),
        Step(lambda _: seen.append("rules"), "rules", personal=False),
    ]
    answer = rank(request_of(3), *steps)
    assert ids(answer) == ["i0", "i1", "i2"]
    assert (answer.tier, answer.degraded, seen) == (Tier.BASE, ["consent_denied"], ["rules"])


@pytest.mark.parametrize(
    "bad",
    [
        [0, 0, 1],
        [0, 1],
        [0, 1, 2, 0],
        [],
    ],
)
def test_an_order_that_is_no_permutation_falls_back_to_base(bad: list[int]) -> None:
    def spoil(context: RankContext) -> None:
        context.order = np.array(bad, np.intp)
        context.tier = Tier.LONG_TERM

    answer = rank(request_of(3), Step(spoil))
    assert ids(answer) == ["i0", "i1", "i2"]
    assert (answer.tier, answer.degraded) == (Tier.BASE, ["order_invalid"])


def test_scores_that_are_not_finite_fall_back_to_base() -> None:
    def spoil(context: RankContext) -> None:
        context.scores = np.array([np.nan, 1.0, 2.0])

    assert rank(request_of(3), Step(spoil)).degraded == ["order_invalid"]


def test_what_a_rule_drops_is_listed_not_lost() -> None:
    def drop(context: RankContext) -> None:
        context.order = np.array([2, 0])
        context.dropped = [Dropped("i1", "blocked")]

    answer = rank(request_of(3), Step(drop))
    assert ids(answer) == ["i2", "i0"]
    assert answer.dropped == [Dropped("i1", "blocked")]


@pytest.mark.parametrize("claimed", ["i0", "nobody"])
def test_dropping_what_was_kept_or_never_sent_falls_back(claimed: str) -> None:
    def drop(context: RankContext) -> None:
        context.order = np.array([2, 0])
        context.dropped = [Dropped(claimed, "blocked")]

    answer = rank(request_of(3), Step(drop))
    assert (ids(answer), answer.dropped) == (["i0", "i1", "i2"], [])
    assert answer.degraded == ["order_invalid"]


def test_why_sums_to_the_score() -> None:
    def score(context: RankContext) -> None:
        values = np.array([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]])
        context.contributions = Contributions(("base", "covisit"), values)
        context.adjustments["cap"] = np.array([0.0, 0.0, -0.3])
        context.scores = values.sum(axis=1) + context.adjustments["cap"]
        context.order = np.array([2, 0, 1])

    answer = rank(request_of(3, explain=True), Step(score))
    for item in answer.items:
        assert item.why is not None
        assert sum(item.why.values()) == pytest.approx(item.score, abs=1e-12)
    assert answer.items[0].why is not None
    assert answer.items[0].why["session"] == pytest.approx(0.6)
    assert answer.items[0].why["cap"] == -0.3


def test_why_of_the_base_order_is_the_base_score() -> None:
    answer = rank(request_of(2, explain=True))
    assert [item.why for item in answer.items] == [{"base": 1.0}, {"base": 0.0}]


def test_nothing_is_explained_unasked() -> None:
    assert rank(request_of(2)).items[0].why is None


class Harm(Exception):
    """The faults of a stage."""


ORDERS = st.lists(st.integers(-5, 60), max_size=60)
FLOATS = st.lists(st.floats(), max_size=60)
DROPS = st.lists(
    st.builds(Dropped, st.sampled_from([f"i{n}" for n in range(20)]), st.just("rule")), max_size=5
)


@given(
    st.integers(0, 30),
    st.integers(1, 40) | st.none(),
    st.lists(st.tuples(ORDERS, FLOATS, DROPS, st.booleans()), max_size=4),
)
def test_no_answer_loses_duplicates_or_invents_an_item(
    count: int, limit: int | None, harms: list[tuple[list[int], list[float], list[Dropped], bool]]
) -> None:
    def harm(order: list[int], scores: list[float], dropped: list[Dropped], raises: bool) -> Step:
        def run(context: RankContext) -> None:
            context.order = np.array(order, np.intp)
            context.scores = np.array(scores)
            context.dropped = dropped
            if raises:
                raise Harm

        return Step(run)

    logging.disable(logging.CRITICAL)
    try:
        answer = rank(request_of(count, limit=limit), *[harm(*h) for h in harms])
    finally:
        logging.disable(logging.NOTSET)
    given_ids = {f"i{n}" for n in range(count)}
    kept, dropped = ids(answer), [d.item_id for d in answer.dropped]
    assert len(set(kept)) == len(kept)
    assert set(kept) | set(dropped) <= given_ids
    assert not set(kept) & set(dropped)
    if limit is None or limit >= count:
        assert set(kept) | set(dropped) == given_ids
    else:
        assert len(kept) == min(limit, count - len(dropped))
    assert [i.position for i in answer.items] == list(range(len(kept)))
