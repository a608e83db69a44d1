"""Feature builds are swapped under load: both item groups change items, order and values."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from threading import Event
from time import perf_counter
from typing import Any

import httpx
import pyarrow as pa
import pytest

from feature_repo.groups import all_groups
from feature_repo.lake.lake import Build, Builds
from feature_repo.settings import Settings
from serving.bootstrap import scoring_stages
from serving.control.flags import Flags, changed
from serving.control.reloading import Model
from serving.items.item_snapshot import snapshot_of
from serving.pipeline.context import Row
from serving.pipeline.runner import Ranker
from serving.schemas.rank_request import Candidate, RankRequest
from serving.scoring.blend import Blend, Gate
from tests.support.ranking_data import item, items_table, neighbours_table

Body = Callable[..., dict[str, Any]]
BUILDS, COUNT = 8, 9
WEIGHTS = {"base": 1.0, "log_ctr": 1.0, "covisit": 1.0}
TOUCHED = ("x1", "x2")
PLAIN = {"exploration.share": 0.0, "holdout": 0.0, "diversity.relevance": 1.0}


def profile_of(build: int) -> pa.Table:
    """Make items in an order that differs by build, one missing, some new, with rates by item and build."""
    ids = [f"i{n}" for n in range(COUNT) if n != build % COUNT] + [f"new{build}-{n}" for n in range(build)]
    random.Random(build).shuffle(ids)
    rates = {item_id: 0.02 + 0.01 * ((7 * n + 3 * build) % 11) for n, item_id in enumerate(sorted(ids))}
    return items_table([item(i, ctr=rates.get(i, 0.1), clicks=50.0) for i in (*ids, *TOUCHED)])


def neighbours_of(build: int) -> pa.Table:
    """Make neighbour counts that differ by build."""
    together = {f"i{n}": 1.0 + (5 * n + 3 * build) % 13 for n in range(COUNT)}
    return neighbours_table(dict.fromkeys(TOUCHED, together), dict.fromkeys(TOUCHED, 20))


@cache
def parts(profile: int, neighbours: int) -> dict[str, tuple[float, float]]:
    """Return the expected parts `item` and `session` of every item, for one build of each group."""
    snapshot = snapshot_of(profile_of(profile), neighbours_of(neighbours), "expected", datetime.now(UTC))
    blend = Blend(
        version="b",
        kind="fitted",
        names=tuple(WEIGHTS),
        scales=(1.0,) * len(WEIGHTS),
        weights=tuple(WEIGHTS.values()),
        gate=Gate(passed=True, reason=""),
    )
    now = datetime.now(UTC)
    model = Model(snapshot, blend, changed(Flags(), PLAIN))
    ranker = Ranker(scoring_stages(Settings()), lambda: model, lambda: now, timedelta(minutes=1))
    candidates = [Candidate(f"i{n}", float(COUNT - n)) for n in range(COUNT)]
    context = ranker.open(RankRequest(candidates=candidates, explain=True), perf_counter())
    at = int(now.timestamp() * 1000)
    context.session = Row({"item_ids": list(TOUCHED), "item_times_ms": [at, at]}, now)
    return said(asyncio.run(ranker.rank(context)).items)


def said(items: Any) -> dict[str, tuple[float, float]]:
    """Parts `item` and `session` by item, rounded."""
    whole = [i if isinstance(i, dict) else {"item_id": i.item_id, "why": i.why} for i in items]
    return {i["item_id"]: (round(i["why"]["item"], 9), round(i["why"]["session"], 9)) for i in whole}


def promote(shop: Any, group: str, table: pa.Table, as_of: datetime) -> None:
    declared, builds = all_groups()[group], Builds(shop.home.features)
    path = builds.write(group, as_of, table, declared.version)
    builds.promote(group, Build(path, as_of, as_of, len(table)), declared.version)


def test_builds_tell_each_other_apart() -> None:
    made = {tuple(sorted(parts(p, n).items())) for p in range(BUILDS) for n in range(BUILDS)}
    assert len(made) == BUILDS * BUILDS
    mixed = {i: (parts(0, 1)[i] if n % 2 else parts(1, 1)[i]) for n, i in enumerate(parts(0, 0))}
    assert tuple(sorted(mixed.items())) not in made


@pytest.mark.filterwarnings("error")
def test_no_answer_mixes_builds(
    shop: Any, serving: Callable[..., Any], body: Body, until: Callable[..., Any]
) -> None:
    shop.blend("parts", **WEIGHTS)
    base = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=BUILDS)
    done, answers = Event(), list[dict[str, Any]]()

    def swap(number: int) -> None:
        promote(shop, "item_profile", profile_of(number), base + timedelta(hours=number))
        promote(shop, "item_neighbours", neighbours_of(number), base + timedelta(hours=number))

    def build_of(answer: dict[str, Any]) -> int:
        return BUILDS - int(answer["ages"]["item_profile"] // 3600)

    swap(0)
    with serving(shop.settings) as served, ThreadPoolExecutor(3) as pool:
        request = body(COUNT, session_id="s", explain=True)

        def ask() -> None:
            with httpx.Client(base_url=served.base_url, timeout=20) as client:
                while not done.is_set():
                    response = client.post("/v1/rank", json=request)
                    assert response.status_code == 200, response.text
                    answers.append(response.json())

        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for number in range(1, BUILDS):
                swap(number)
                until(lambda number=number: answers and build_of(answers[-1]) == number)
        finally:
            done.set()
        for each in asking:
            each.result(20)
    assert {build_of(answer) for answer in answers} == set(range(BUILDS)), "all builds served"
    for answer in answers:
        profile = build_of(answer)
        # Groups are promoted separately: neighbours may be of the build before or after, but of only one.
        possible = [parts(profile, n) for n in range(max(profile - 1, 0), min(profile + 2, BUILDS))]
        assert said(answer["items"]) in possible
        positions = [i["position"] for i in answer["items"]]
        assert sorted(i["item_id"] for i in answer["items"]) == [f"i{n}" for n in range(COUNT)]
        assert positions == list(range(COUNT))
