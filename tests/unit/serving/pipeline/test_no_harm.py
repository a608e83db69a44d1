"""Regression tests of defects once found in serving."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from feature_repo.clock import wall_clock
from serving.control.apply_rules import apply_rules
from serving.control.flag_store import FlagStore
from serving.control.flags import Flags, FlagsError, changed, parse_flags
from serving.control.reloading import Model, Watched, stamp_of
from serving.control.rules import AtMost, Demote, Exclude, Pin, Rules, relevant
from serving.monitoring.metrics import bury
from serving.pipeline.cap import CapStage
from serving.pipeline.context import RankContext, Row
from serving.pipeline.exploration import ExplorationStage
from serving.pipeline.rules import RulesStage
from serving.pipeline.runner import Ranker
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import RankAnswer, Tier
from tests.support.ranking_data import item, snapshot

PURCHASE = 5.0
IDS = tuple(f"i{n}" for n in range(20))


class Late:
    """A stage that reverses the order and uses up the budget."""

    name = "blend"
    personal = True

    def __init__(self, late: bool = True) -> None:
        self._late = late

    def run(self, context: RankContext) -> None:
        context.scores, context.order = -context.base.scores, context.base.order[::-1]
        context.tier = Tier.LONG_TERM
        if self._late:
            context.deadline = perf_counter() - 1.0


def rank(request: RankRequest, model: Model, *stages: Any) -> RankAnswer:
    ranker = Ranker(stages, lambda: model, lambda: datetime(2024, 6, 1, tzinfo=UTC), timedelta(seconds=60))
    return asyncio.run(ranker.rank(ranker.open(request, perf_counter())))


def request_of(count: int, **fields: Any) -> RankRequest:
    return RankRequest(candidates=[Candidate(f"i{n}") for n in range(count)], **fields)


def test_the_cap_holds_when_time_runs_out() -> None:
    flags = changed(Flags(), {"cap.positions": 1})
    answer = rank(request_of(20), Model(None, None, flags), Late(), CapStage())
    assert max(abs(i.position - i.base_position) for i in answer.items) <= 1


def test_a_stage_of_every_answer_that_spoils_it_does_not_take_the_rules_with_it() -> None:
    class Spoils:
        name = "cap"
        personal = False

        def run(self, context: RankContext) -> None:
            context.order = context.order[:-1]

    model = Model(None, None, Flags(), Rules((Exclude(name="blocked", items=("i0",)),)))
    answer = rank(request_of(3), model, Spoils(), RulesStage(PURCHASE))
    assert [i.item_id for i in answer.items] == ["i1", "i2"]
    assert [d.item_id for d in answer.dropped] == ["i0"]
    assert answer.degraded == ["order_invalid"]


BRANDS = snapshot([item(f"i{n}", [f"brand:{n % 10}"]) for n in range(20)])
EXCLUDE = Exclude(name="blocked", items=("i19", "i17", "i3"))
PINS = (
    Pin(name="first", items=("i4", "i18"), position=1),
    Pin(name="second", items=("i2", "i4"), position=3),
)
LAST = Demote(name="last", items=("i16", "i5", "i18"))


@pytest.mark.parametrize(
    ("share", "rules"),
    [
        (0.10, (EXCLUDE,)),
        (0.15, (EXCLUDE, *PINS)),
        (0.20, (LAST, *PINS)),
        (0.15, (EXCLUDE, LAST, AtMost(name="inert", type="brand", count=2))),
        (0.20, (AtMost(name="inert", type="brand", count=1, first=3), Exclude(name="half", items=IDS[10:]))),
        (
            0.20,
            (Demote(name="nobody here", items=("x",), by=3), Pin(name="far", items=("i19",), position=15)),
        ),
    ],
)
def test_propensities_hold_after_rules_that_leave_the_others_in_order(share: float, rules: Any) -> None:
    """Compare the propensities of an answer with many draws."""
    flags = changed(Flags(), {"exploration": {"share": share, "slots": 6}})
    model = Model(BRANDS, None, flags, Rules(rules))
    stages = (Late(late=False), ExplorationStage(PURCHASE), RulesStage(PURCHASE))
    draws, places, chances = 700, Counter[tuple[str, int]](), dict[tuple[str, int], float]()
    for draw in range(draws):
        answer = rank(request_of(20, request_id=f"r{draw}", limit=6), model, *stages)
        for shown in answer.items:
            assert shown.propensity is not None
            places[shown.item_id, shown.position] += 1
            chances[shown.item_id, shown.position] = shown.propensity
    assert len(chances) > 6, "something was explored"
    for place, chance in chances.items():
        error = 5 * np.sqrt(chance * (1 - chance) / draws)
        assert places[place] / draws == pytest.approx(chance, abs=error + 1e-9), place


@pytest.mark.parametrize(
    "rule",
    [
        Demote(name="d", items=("i3",), by=2),
        AtMost(name="a", type="brand", count=1, first=5),
        AtMost(name="a", type="brand", count=1),
    ],
)
def test_where_places_depend_on_the_draw_no_propensity_is_claimed(rule: Any) -> None:
    model = Model(BRANDS, None, Flags(), Rules((rule,)))
    stages = (Late(late=False), ExplorationStage(PURCHASE), RulesStage(PURCHASE))
    assert all(i.propensity is None for i in rank(request_of(40), model, *stages).items)
    others = RankRequest(candidates=[Candidate(f"x{n}") for n in range(40)])
    assert all(i.propensity is not None for i in rank(others, model, *stages).items)


def test_relevant_rules_do_the_same() -> None:
    rules = Rules(
        (
            Exclude(name="blocked", items=("i1", "gone")),
            Exclude(name="elsewhere", items=("gone",)),
            Exclude(name="bought", bought=True),
            Demote(name="later", items=("i2",), attributes=("a:b",), by=3),
            AtMost(name="two", count=2),
            Pin(name="campaign", items=("gone", "i7", "i5")),
            Pin(name="none", items=("gone",)),
        )
    )
    ids = [f"i{n}" for n in range(10)]
    less = relevant(rules, ids)
    assert [rule.name for rule in less.rules] == ["blocked", "bought", "later", "two", "campaign"]
    order = np.arange(10)
    before, after = (apply_rules(r, order, ids, None, {"i9"}) for r in (rules, less))
    assert (before.order == after.order).all()
    assert before.dropped == after.dropped


@pytest.fixture
def store(tmp_path: Path) -> FlagStore:
    return FlagStore(tmp_path / "flags", wall_clock)


def test_a_torn_line_of_the_audit_log_does_not_stop_changes(store: FlagStore) -> None:
    store.change({"holdout": 0.1}, "a")
    store.change({"holdout": 0.2}, "b")
    audit = store.root / "audit.jsonl"
    audit.write_bytes(audit.read_bytes() + b'{"version": 3, "cont')
    assert [c.who for c in store.history()] == ["a", "b"]
    assert store.change({"personalization": False}, "c").personalization is False
    assert [(c.version, c.who) for c in store.history()] == [(1, "a"), (2, "b"), (3, "c")]
    assert store.rollback("d").personalization


def test_a_version_that_is_no_longer_readable_cannot_be_gone_back_to(store: FlagStore) -> None:
    for share in (0.1, 0.2, 0.3):
        store.change({"holdout": share}, "a")
    audit = store.root / "audit.jsonl"
    lines = audit.read_bytes().splitlines()
    audit.write_bytes(b"\n".join([lines[0], b"{}", lines[2]]) + b"\n")
    with pytest.raises(FlagsError, match="version 2 is no longer readable"):
        store.rollback("b")


def test_the_kill_switch_works_where_the_audit_log_cannot_be_written(store: FlagStore) -> None:
    store.root.mkdir()
    (store.root / "audit.jsonl").mkdir()
    store.path.write_bytes(b'{"personalization": false}')
    assert store.load().personalization is False


@pytest.mark.parametrize("raw", [b'{"tiers": ["\xff"]}', b'{"weights": ' + b"[" * 100_000])
def test_flags_that_are_no_text_or_too_deep(raw: bytes) -> None:
    with pytest.raises(FlagsError):
        parse_flags(raw)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"cap.position": 3}, "experiments: x: a: cap: Object contains unknown field `position`"),
        ({"holdout": 0.5}, "holdout is the same for all arms"),
        ({"experiments": []}, "experiments is the same for all arms"),
    ],
)
def test_arms_that_set_what_is_no_flag_are_refused(flags: dict[str, Any], says: str) -> None:
    experiment = {"name": "x", "arms": {"a": {"flags": flags}, "b": {}}}
    with pytest.raises(FlagsError) as caught:
        parse_flags(json.dumps({"experiments": [experiment]}).encode())
    assert caught.value.field == "experiments"
    assert says in str(caught.value)


def test_a_load_that_fails_for_a_while_is_tried_again(tmp_path: Path) -> None:
    path, full = tmp_path / "n", [True]
    path.write_text("7")
    failures: list[str] = []

    def load() -> int:
        if full[0]:
            raise OSError(24, "too many open files")
        return int(path.read_text())

    watched = Watched("n", lambda: stamp_of(path), load, 0, failures.append, retry_s=0.0)
    assert not watched.refresh()
    assert not watched.refresh()
    full[0] = False
    assert watched.refresh()
    assert (watched.value, failures) == (7, ["n"])


def test_a_file_missing_for_an_instant_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text("7")
    watched = Watched("n", lambda: stamp_of(path), lambda: path.read_text() if path.exists() else "", "")
    watched.refresh()
    path.unlink()
    assert not watched.refresh()
    assert watched.value == "7"
    assert watched.refresh(), "gone for good"
    assert watched.value == ""


def test_gauges_of_dead_workers_are_dropped(tmp_path: Path) -> None:
    dead = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(dead, 0)
    for name in (f"gauge_livemax_{dead}.db", f"gauge_livemax_{os.getpid()}.db", f"counter_{dead}.db"):
        (tmp_path / name).touch()
    bury(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([f"counter_{dead}.db", f"gauge_livemax_{os.getpid()}.db"])


@pytest.mark.parametrize(
    "values",
    [
        {"item_weights": [5.0], "purchase_count": 1},
        {"item_weights": [5.0], "item_ids": [], "purchase_count": 1},
        {"item_weights": ["x"], "item_ids": ["i1"], "purchase_count": 1},
    ],
)
def test_a_damaged_session_row_does_not_keep_blocked_items(values: dict[str, Any]) -> None:
    class Session:
        name = "features"
        personal = True

        def run(self, context: RankContext) -> None:
            context.session = Row(values, context.now)

    model = Model(None, None, Flags(), Rules((Exclude(name="blocked", items=("i0",), bought=True),)))
    answer = rank(request_of(3), model, Session(), RulesStage(PURCHASE))
    assert [d.item_id for d in answer.dropped] == ["i0"]
    assert answer.degraded == ["bought_unknown"]
