"""The fit and its gate: a real taste is found, noise is refused, few lists are left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from feature_repo.contract.validation import encode, to_arrow
from feature_repo.errors import BuildError
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.evaluation.blend_scores import blend_scores, ndcg_of
from orchestration.evaluation.fit_blend import MIN_LISTS, fit, fit_blend, gated_blend, with_relevant
from orchestration.evaluation.gate import judge
from orchestration.evaluation.history import History
from orchestration.evaluation.history_replay import Replay, Replayed
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from serving.scoring.blend import load_blend
from serving.scoring.signal_matrix import SignalMatrix
from tests.conftest import NOW
from tests.support.history_data import tasteful

CANDIDATES = PopularCandidates(100, timedelta(hours=1))


def replayed(past: History) -> Replayed:
    settings = Settings()
    return Replay(past, ReplaySessions(past, settings), settings).run(find_tasks(past, CANDIDATES))


@pytest.fixture(scope="module")
def lists() -> Replayed:
    """Tastes of users; without segments, whose rule (users of one taste) would be as good as any fit."""
    found = replayed(tasteful(600))
    columns = [i for i, name in enumerate(found.names) if not name.startswith("segment_")]
    names = tuple(found.names[i] for i in columns)
    return replace(found, names=names, values=found.values[:, columns])


@pytest.fixture(scope="module")
def noise() -> Replayed:
    return replayed(tasteful(600, loyalty=0.0))


def test_a_taste_passes_the_gate_with_its_figures(lists: Replayed) -> None:
    blend = gated_blend(lists, NOW)
    gate = blend.gate
    assert blend.kind == "fitted"
    assert blend.gate.passed
    assert gate.low is not None
    assert gate.low > 0
    assert (gate.lists_fitted, gate.lists_held_out) == (360, 240)
    assert gate.ndcg_fitted is not None
    assert gate.ndcg_base is not None
    assert gate.difference == pytest.approx(
        gate.ndcg_fitted - max(gate.ndcg_base, gate.rankers[gate.baseline])
    )
    weights = dict(zip(blend.names, blend.weights, strict=True))
    assert max(weights, key=weights.__getitem__).endswith("log_odds:category")
    assert "the fitted blend serves" in gate.reason


def test_noise_is_refused_and_a_simple_order_serves(noise: Replayed) -> None:
    blend = gated_blend(noise, NOW)
    assert blend.kind in {"base", "rule"}
    assert not blend.gate.passed
    assert blend.gate.low is not None
    assert blend.gate.low <= 0
    assert f"not above zero, {blend.ranker} serves" in blend.gate.reason


def test_few_lists_are_not_fitted(lists: Replayed) -> None:
    few = lists.part(0, MIN_LISTS - 1)
    blend = gated_blend(few, NOW)
    assert blend.kind == "base"
    assert blend.gate.reason == "299 lists with an engagement; a fit needs 300, 1 more: the base order serves"
    assert gated_blend(few.part(0, 0), NOW).kind == "base"


def test_a_blend_that_turns_the_order_around_is_refused(lists: Replayed) -> None:
    turned = fit(lists, "v")
    turned = type(turned)(
        version="v",
        kind="fitted",
        names=turned.names,
        scales=turned.scales,
        weights=tuple(-w for w in turned.weights),
        gate=turned.gate,
    )
    gate = judge(ndcg_of(turned, lists), "ctr", lists, len(lists), 1)
    assert not gate.passed
    assert gate.high is not None
    assert gate.high < 0


def test_scores_of_all_lists_equal_what_the_served_blend_gives_each(lists: Replayed) -> None:
    blend = fit(lists, "v")
    together = blend_scores(blend, lists)
    for number in (0, 7, 599):
        places = slice(int(lists.offsets[number]), int(lists.offsets[number + 1]))
        alone = blend.scores(SignalMatrix(lists.names, lists.values[places].astype(np.float64)))
        np.testing.assert_allclose(together[places], alone, atol=1e-5)


def test_groups_bound_what_a_fit_may_use(lists: Replayed) -> None:
    names = fit(lists, "v", ("base", "session")).names
    assert names
    assert not any(name.startswith(("log_", "segment_")) for name in names)


def test_lists_without_anything_relevant_are_left_out(lists: Replayed) -> None:
    first = lists.part(0, 3)
    first.relevant[int(first.offsets[1]) : int(first.offsets[2])] = False
    kept = with_relevant(first)
    assert kept.times == (first.times[0], first.times[2])


def into_lake(past: History, home: Home) -> None:
    """Write events to the lake as its writer would."""
    import pyarrow.parquet as pq

    days: dict[Path, list[object]] = {}
    for event in past.events:
        days.setdefault(home.lake / "events" / f"day={event.event_time.date()}", []).append(event)
    for folder, events in days.items():
        folder.mkdir(parents=True)
        pq.write_table(to_arrow("event", events, NOW), folder / "part.parquet")  # type: ignore[arg-type]


def test_the_blend_of_the_lake_is_saved_beside_its_figures(home: Home, settings: Settings) -> None:
    past = tasteful(900, loyalty=1.0)
    assert encode(past.events[0])
    into_lake(past, home)
    blend = fit_blend(settings, home)
    saved = load_blend(home.models)
    assert saved is not None
    assert (saved.version, saved.kind, saved.gate) == (blend.version, blend.kind, blend.gate)
    assert blend.gate.lists_fitted + blend.gate.lists_held_out == 900


def test_an_empty_lake_is_explained(home: Home, settings: Settings) -> None:
    with pytest.raises(BuildError, match="no event to fit on; ingest some first: headrace ingest PATH"):
        fit_blend(settings, home)
    assert load_blend(home.models) is None
