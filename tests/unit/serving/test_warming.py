"""Warm-up compiles everything that a request may need."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest

import serving
from feature_repo.settings import Settings
from serving.bootstrap import scoring_stages
from serving.control.flags import Flags, changed
from serving.control.reloading import Model
from serving.control.rules import AtMost, Demote, Exclude, Pin, Rules
from serving.decisions.page_metrics import page_figures
from serving.items.item_snapshot import ItemSnapshot
from serving.pipeline.blend import gather
from serving.pipeline.context import Row
from serving.pipeline.runner import Ranker
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import RankAnswer
from serving.scoring.blend import Blend, Gate
from serving.scoring.signal_matrix import signal_names
from serving.warmup import warm_stages
from tests.support.ranking_data import AS_OF, item, neighbours_table, profile, session, snapshot

STAGES = scoring_stages(Settings())
WITHOUT_ITEMS = {"items_missing", "attributes_unknown"}


def kernels() -> dict[str, Any]:
    """Return every compiled function of the package by name."""
    found = {}
    for module in pkgutil.walk_packages(serving.__path__, "serving."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if hasattr(value, "disable_compile") and value.__module__ == module.name:
                found[f"{module.name}.{name}"] = value
    return found


def signatures() -> dict[str, list[Any]]:
    """Return the compiled signatures of every kernel."""
    return {name: list(kernel.signatures) for name, kernel in kernels().items()}


@pytest.fixture(scope="module")
def warm() -> Iterator[dict[str, list[Any]]]:
    """Return the signatures after the warm-up, and make kernels raise for any other."""
    warm_stages(STAGES, Flags())
    found = signatures()
    used = [kernel for kernel in kernels().values() if kernel.signatures]
    for kernel in used:
        kernel.disable_compile()
    yield found
    for kernel in used:
        kernel.disable_compile(False)


RICH = [
    item(
        f"i{n}",
        [f"category:{n % 5}", f"brand:{n % 3}"],
        numeric_keys=["price"],
        numeric_values=[float(n)],
        vector=[1.0, float(n), 0.5] if n % 4 else [],
    )
    for n in range(30)
]
SNAPSHOTS = {
    "rich": snapshot(RICH, neighbours_table({"i1": {"i2": 3.0}}, {"i1": 4})),
    "bare": snapshot([item("i0"), item("i1")]),
    "one": snapshot(RICH[:1]),
    "none": None,
}
RULES = Rules(
    (
        Exclude(name="gone", items=("i3",), attributes=("brand:2",), bought=True),
        Demote(name="later", items=("i4",), by=3),
        Demote(name="last", items=("i6",)),
        AtMost(name="two", type="brand", count=2, first=6),
        Pin(name="top", items=("i7", "i1"), position=1),
    )
)


WHO = Row(profile({"category:1": (3.0, 1.0)}, medians={"price": 3.0}), AS_OF)
VISIT = Row(session({"i1": 5}, {"category:1": 2.0}), AS_OF)
EVERYTHING = WHO, WHO, VISIT


def answer(
    held: ItemSnapshot | None,
    candidates: list[Candidate],
    flags: Flags,
    rules: Rules,
    known: tuple[Row | None, Row | None, Row | None] = EVERYTHING,
    **fields: Any,
) -> RankAnswer:
    """Rank with a known user, segment and session, or without."""
    names = ("base",) if held is None else signal_names(held.attributes.types, held.numeric_names)
    ones = tuple(1.0 + n for n in range(len(names)))
    blend = Blend(
        version="b", kind="fitted", names=names, scales=ones, weights=ones, gate=Gate(passed=True, reason="")
    )
    model = Model(held, blend, flags, rules)
    ranker = Ranker(STAGES, lambda: model, lambda: AS_OF, timedelta(seconds=60))
    context = ranker.open(RankRequest(candidates=candidates, **fields), perf_counter())
    context.user, context.segment, context.session = known
    gather(context)
    found = asyncio.run(ranker.rank(context))
    if held is not None and len(context.numbers):
        page_figures(context.numbers[context.order], held)
    return found


@pytest.mark.parametrize("rules", [Rules(), RULES], ids=["no rules", "rules"])
@pytest.mark.parametrize("held", SNAPSHOTS)
def test_no_request_meets_a_loop_that_is_not_compiled(
    warm: dict[str, list[Any]], held: str, rules: Rules
) -> None:
    tight = changed(
        Flags(),
        {
            "cap": {"positions": 3, "share": 0.5},
            "diversity": {"relevance": 0.2, "per_category": 1},
            "holdout": 0,
        },
    )
    for flags in (
        Flags(holdout=0.0),
        tight,
        changed(tight, {"cap": {"positions": None}}),
        Flags(holdout=1.0),
    ):
        for count in (0, 1, 2, 25):
            scored = [Candidate(f"i{n}", float(n * 7 % 11)) for n in range(count)]
            strangers = [Candidate(f"x{n}", 1e-300 * n) for n in range(count)]
            unscored = [Candidate(f"i{n}") for n in range(count)]
            for candidates in (scored, strangers, unscored, strangers + scored):
                for fields in ({}, {"limit": 3}, {"explain": True}):
                    found = answer(SNAPSHOTS[held], candidates, flags, rules, **fields)
                    codes = [code for code in found.degraded if code not in WITHOUT_ITEMS]
                    assert codes == []
    assert signatures() == warm


@pytest.mark.parametrize("held", SNAPSHOTS)
def test_whoever_asks_meets_no_loop_that_is_not_compiled(warm: dict[str, list[Any]], held: str) -> None:
    bare = Row(profile({}), AS_OF)
    empty = Row(session({}), AS_OF)
    strange = Row(session({f"x{n}": n for n in range(20)}, {"odd:one": 1.0}), AS_OF)
    candidates = [Candidate(f"i{n}", float(n)) for n in range(25)] + [Candidate("stranger", 0.5)]
    for user in (None, WHO, bare):
        for segment in (None, WHO, bare):
            for visit in (None, VISIT, empty, strange):
                for flags in (Flags(holdout=0.0), changed(Flags(), {"weights": {"session": 2.0}})):
                    known = user, segment, visit
                    found = answer(SNAPSHOTS[held], candidates, flags, Rules(), known, explain=True)
                    assert [code for code in found.degraded if code not in WITHOUT_ITEMS] == []
    assert signatures() == warm


def test_each_loop_has_one_signature(warm: dict[str, list[Any]]) -> None:
    entered = {name: len(found) for name, found in warm.items() if found}
    assert len(entered) > 5
    assert entered == dict.fromkeys(entered, 1)
