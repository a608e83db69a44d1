"""The main job as a user runs it: one command, its report, and a click that changes a ranking."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feature_repo.groups import batch_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from tests.e2e.conftest import ROOT, command, environment, readable_by_others

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("demo")]
SHOP = ("--users", "400", "--items", "150", "--days", "5", "--seed", "1")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    home = tmp_path_factory.mktemp("demo")
    result = subprocess.run(
        command("demo", *SHOP),
        env=environment(home),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        umask=0o022,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result, home


@pytest.fixture(scope="module")
def report(ran: tuple[subprocess.CompletedProcess[str], Path]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ran[1] / "demo" / "report.json").read_text())
    return found


def test_every_record_is_accounted_for(
    ran: tuple[subprocess.CompletedProcess[str], Path], report: dict[str, Any]
) -> None:
    truth = json.loads((ran[1] / "demo" / "shop.truth.json").read_text())["counts"]
    assert report["events"] == truth["events"] == sum(report["by_type"].values())
    assert report["by_type"] == truth["by_type"]
    assert (report["quarantined"], report["duplicates"]) == (truth["malformed"], truth["duplicates"])
    assert (report["items"], report["users"]) == (150, 400)


def test_every_batch_group_was_built(report: dict[str, Any]) -> None:
    assert set(report["features"]) == set(batch_groups())
    assert report["features"]["item_profile"] == 150
    assert 300 < report["features"]["user_profile"] <= 400
    assert all(rows > 0 for rows in report["features"].values())


def test_a_click_changes_the_sessions_next_ranking_within_a_second(report: dict[str, Any]) -> None:
    """Stream and serving are processes of their own, on the embedded default."""
    assert 0 < report["click_to_ranking_ms"] < 1000


def test_the_evaluation_puts_the_blend_above_popularity(report: dict[str, Any]) -> None:
    arms = {arm["name"]: arm for arm in report["evaluation"]["arms"]}
    assert list(arms) == ["shown", "popularity", "segment", "long_term", "session", "blend"]
    assert arms["blend"]["ndcg_10"]["mean"] > arms["popularity"]["ndcg_10"]["mean"] > 0.3


def test_what_is_shown(ran: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    said = ran[0].stdout
    for part in ("Before any click", "Why: contribution", "click to ranking", "NDCG@10 blend"):
        assert part in said
    assert "session" in said
    assert "Traceback" not in said + ran[0].stderr
    assert "Warning" not in ran[0].stderr


def test_its_last_line_opens_what_it_made_with_times_near_the_present(
    ran: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    folder = ran[1] / "demo"
    last = ran[0].stdout.rstrip().splitlines()[-1]
    assert last.split()[0] == f"HEADRACE_HOME={folder}"
    assert last.endswith(" up")
    assert "CLOCK_OFFSET" not in last, "the shop ends near the present"
    today = datetime.now(UTC).date()
    assert Lake(Home(folder).lake).days()[-1] >= today - timedelta(days=1)


def test_what_it_wrote_is_its_owners_alone(
    ran: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Ingest, DuckDB, Dagster, Feast, the stream, serving: every writer, under a usual umask."""
    written = {path.suffix for path in (ran[1] / "demo").rglob("*")}
    assert {".parquet", ".db", ".sqlite3", ".seg", ".json", ".log", ".html"} <= written
    assert readable_by_others(ran[1] / "demo") == []
    assert readable_by_others(ran[1]) == []


def test_the_steps_are_timed(report: dict[str, Any]) -> None:
    assert list(report["seconds"]) == [
        *("simulate", "ingest", "chain", "start", "session", "evaluate", "total"),
    ]
    parts = [s for name, s in report["seconds"].items() if name != "total"]
    assert sum(parts) <= report["seconds"]["total"] + 0.1
