"""Data without impressions or attributes: Deskdrop, with popular candidates."""

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
def test_deskdrop_is_read_whole_and_sessions_help(
    shared_data: Callable[[str], Path], settings: Settings
) -> None:
    history = read_history(shared_data("deskdrop/users_interactions.csv.zip"), "deskdrop", settings)
    assert len(history.events) + history.duplicates == 72_312
    assert (history.duplicates, history.rejected) == (2284, 0)
    plan = Plan(0.8, PopularCandidates(100, timedelta(hours=1)), max_lists=12_000)
    found = evaluate(history, settings, plan, data="deskdrop", fmt="deskdrop")
    assert found.test_lists > 500
    assert found.arm("blend").versus["popularity"].above_zero
    assert found.arm("blend").versus["shown"].low > -0.005
    assert found.arm("long_term").ndcg_10 == found.arm("segment").ndcg_10  # no attributes, no taste to see
    assert found.arm("session").ndcg_10.mean >= found.arm("long_term").ndcg_10.mean - 0.005
