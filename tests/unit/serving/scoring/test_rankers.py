"""Simple rankers order as described, and are served like a blend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from serving.control.flags import Flags, FlagsError, changed, parse_flags
from serving.control.reloading import Model
from serving.pipeline.blend import BlendStage
from serving.pipeline.context import Row
from serving.pipeline.runner import Ranker as Runner
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import RankAnswer, Tier
from serving.scoring.ranker import Ranker, personal
from serving.scoring.ranker_names import ranker_names
from serving.scoring.rankers import all_rankers
from serving.scoring.signal_matrix import SignalMatrix, signal_names
from tests.support.ranking_data import AS_OF, item, neighbours_table, session, snapshot

ITEMS = (
    item("a", ["category:shoes"], clicks=5.0, ctr=0.3, price=10.0),
    item("b", ["category:shoes"], clicks=9.0, ctr=0.1, price=30.0),
    item("c", ["category:hats"], purchases=2.0, clicks=1.0, ctr=0.2, price=20.0),
    item("d", ["category:hats"], clicks=7.0, ctr=0.4, price=40.0),
)
PAIRS = neighbours_table({"c": {"d": 8.0, "b": 2.0}}, {"c": 10}, {"c": {"a": 6.0, "d": 1.0}})


def rank(ranker: str, candidates: str = "abcd", touched: Sequence[str] = ()) -> RankAnswer:
    """Rank by a rule; `touched` lists the touched items, newest first."""
    flags = changed(Flags(), {"ranker": ranker})
    model = Model(snapshot(ITEMS, PAIRS), None, flags)
    request = RankRequest(candidates=[Candidate(name) for name in candidates], explain=True)
    runner = Runner([BlendStage()], lambda: model, lambda: AS_OF, timedelta(seconds=60))
    context = runner.open(request, perf_counter())
    if touched:
        now_ms = int(AS_OF.timestamp() * 1000)
        context.session = Row(session({name: now_ms - n for n, name in enumerate(touched)}), AS_OF)
    return asyncio.run(runner.rank(context))


def ids(answer: RankAnswer) -> str:
    return "".join(item.item_id for item in answer.items)


@pytest.mark.parametrize(
    ("ranker", "touched", "wanted"),
    [
        ("base", "", "abcd"),
        ("clicks", "", "bdac"),
        ("ctr", "", "dacb"),
        ("purchases", "", "cabd"),
        ("touched_first", "", "abcd"),
        ("touched_first", "cb", "cbad"),
        ("below_last", "b", "cdab"),
        ("near_last", "c", "cbda"),
        ("near_last", "", "abcd"),
        ("covisit_last", "c", "dbac"),
        ("next_click", "c", "adbc"),
        ("content_last", "c", "cdab"),
        ("content_last", "", "abcd"),
    ],
)
def test_a_rule_orders_as_its_sentence_says(ranker: str, touched: str, wanted: str) -> None:
    assert ids(rank(ranker, touched=touched)) == wanted


def test_price_is_ranked_from_the_cheapest() -> None:
    matrix = SignalMatrix(("base", "numeric:price"), np.array([[1.0, 3.0], [0.5, 1.0], [0.0, 2.0]]))
    scores = all_rankers()["cheapest"].blend(matrix.names).scores(matrix)
    assert np.argsort(-scores).tolist() == [1, 2, 0]


def test_a_rule_that_the_data_cannot_follow_is_the_base_order() -> None:
    blend = all_rankers()["cheapest"].blend(("base", "log_ctr"))
    assert (blend.kind, blend.names) == ("base", ("base",))


def test_large_values_are_not_cut_as_signals_of_a_fitted_blend_are() -> None:
    matrix = SignalMatrix(("base", "log_ctr"), np.array([[1.0, 50.0], [0.5, 60.0], [0.0, 0.0]]))
    scores = all_rankers()["ctr"].blend(matrix.names).scores(matrix)
    assert scores[1] > scores[0] > scores[2]


def test_a_rule_of_the_session_is_a_personal_tier_and_one_for_all_is_not() -> None:
    assert rank("touched_first", touched="c").tier is Tier.SESSION_SEGMENT
    assert rank("ctr", touched="c").tier is Tier.BASE
    assert personal(("base", "touch_rank"))
    assert not personal(("base", "log_ctr"))


def test_a_rule_is_explained_by_its_signal() -> None:
    why = rank("touched_first", touched="c").items[0].why
    assert why is not None
    assert why["session"] > 0.0


def test_a_rule_that_is_asked_for_is_no_closed_gate() -> None:
    assert rank("ctr").degraded == []


def test_every_ranker_has_a_name_a_sentence_and_columns_of_its_signal() -> None:
    names = signal_names(("category",), ("price",))
    assert tuple(sorted(all_rankers())) == ranker_names()
    for name, ranker in all_rankers().items():
        assert isinstance(ranker, Ranker)
        assert (ranker.name, ranker.sentence[-1]) == (name, ".")
        assert ranker.columns(names), name


@pytest.mark.parametrize("value", ["nonsense", "CTR"])
def test_a_ranker_that_does_not_exist_is_refused_by_name(value: Any) -> None:
    with pytest.raises(
        FlagsError, match=f"ranker: '{value}' is not a ranker; known rankers are base, below_last"
    ):
        parse_flags({"ranker": value})
