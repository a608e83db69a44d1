"""Which of Dagster's runs go: never the last good one of a partition while it is young enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from orchestration.builds.run_retention import KeepRuns, superseded_runs

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
KEEP = KeepRuns(all=timedelta(days=2), failed=timedelta(days=30), last=timedelta(days=120))
OK, FAILED, RUNNING = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED


def run(name: str, days: float, status: Any = OK, partition: str = "p", assets: str = "") -> Any:
    selection = frozenset({dg.AssetKey(assets)}) if assets else None
    made = dg.DagsterRun(
        job_name="chain",
        run_id=name,
        status=status,
        tags={"dagster/partition": partition},
        asset_selection=selection,
    )
    return SimpleNamespace(dagster_run=made, create_timestamp=NOW - timedelta(days=days))


@pytest.mark.parametrize(
    ("newest_first", "gone"),
    [
        ([run("a", 0.1), run("b", 1.9)], []),
        ([run("a", 0.1), run("b", 2.1)], ["b"]),
        ([run("a", 3), run("b", 3.5)], ["b"]),
        ([run("a", 119)], []),
        ([run("a", 121)], ["a"]),
        ([run("a", 3, partition="p"), run("b", 4, partition="q")], []),
        ([run("a", 3, assets="x"), run("b", 4, assets="y")], []),
        # A failure hides no good run behind it, and is kept long enough to be looked at.
        ([run("a", 3, FAILED), run("b", 4), run("c", 31, FAILED), run("d", 32)], ["c", "d"]),
        # What still runs is no last good run.
        ([run("a", 3, RUNNING), run("b", 4), run("c", 121, RUNNING)], ["c"]),
    ],
)
def test_runs_to_remove(newest_first: list[Any], gone: list[str]) -> None:
    assert superseded_runs(newest_first, NOW, KEEP) == gone
