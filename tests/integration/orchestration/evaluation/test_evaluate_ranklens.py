"""The reference: RankLens by its protocol, in one run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from orchestration.evaluation.evaluate import Plan, evaluate
from orchestration.evaluation.history import read_history
from orchestration.evaluation.ranking_tasks import PopularCandidates


@pytest.mark.real_data
@pytest.mark.timeout(900)
def test_ranklens_meets_the_reference_and_the_blend_beats_popularity(
    shared_data: Callable[[str], Path], settings: Settings
) -> None:
    path = shared_data("ranklens/events.jsonl.gz")
    history = read_history(path, "metarank", settings)
    assert len(history.catalogue) == 2512
    assert len(history.events) == 9800 + 46_125
    assert (history.duplicates, history.rejected) == (0, 0)
    plan = Plan(0.8, PopularCandidates(100, timedelta(hours=1)))
    found = evaluate(history, settings, plan, data="ranklens", fmt="metarank")
    assert (found.tasks, found.test_lists, found.without_relevant) == (9800, 1788, 172)
    assert found.arm("shown").ndcg_10.mean == pytest.approx(0.379, abs=0.0005)
    assert found.arm("popularity").ndcg_10.mean == pytest.approx(0.594, abs=0.0005)
    blend = found.arm("blend")
    assert blend.ndcg_10.mean >= 0.615
    assert blend.versus["popularity"].above_zero
    assert found.gate.passed
