"""Evaluation of made-up histories, and the command with its messages."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_repo.contract import encode
from feature_repo.errors import SettingsError, SourceError
from feature_repo.settings import Settings
from orchestration.cli import app
from orchestration.evaluation import Evaluation, Plan, evaluate
from orchestration.history import History, read_history
from orchestration.replay_tasks import PopularCandidates
from tests.history_data import event, history, tasteful

PLAN = Plan(0.8, PopularCandidates(100, timedelta(hours=1)))
ARMS = ["shown", "popularity", "segment", "long_term", "session", "blend"]


def run(past: History, settings: Settings) -> Evaluation:
    return evaluate(past, settings, PLAN, data="made up", fmt="headrace")


def test_a_taste_shows_in_the_arms_that_can_see_it(settings: Settings) -> None:
    found = run(tasteful(800, loyalty=1.0), settings)
    assert [arm.name for arm in found.arms] == ARMS
    assert (found.tasks, found.history_lists, found.test_lists) == (800, 640, 160)
    for name in ("long_term", "blend"):
        assert found.arm(name).versus["shown"].above_zero
        assert found.arm(name).versus["popularity"].above_zero
    assert found.arm("blend").ndcg_10.mean > found.arm("shown").ndcg_10.mean + 0.1
    assert found.blend_kind == "fitted"


def test_without_any_taste_the_blend_does_no_harm(settings: Settings) -> None:
    found = run(tasteful(800, loyalty=0.0), settings)
    difference = found.arm("blend").versus["shown"]
    assert difference.low <= 0.0 <= difference.high


def test_with_few_lists_every_fitted_arm_is_the_order_shown(settings: Settings) -> None:
    found = run(tasteful(100), settings)
    for name in ARMS[2:]:
        assert found.arm(name).versus["shown"].mean == 0.0
    assert "a fit needs 300" in found.gate.reason


def test_data_without_impressions_ranks_what_was_popular(settings: Settings) -> None:
    clicks = [event(n, 60.0 * n, item_id=f"i{n * n % 7}", session_id=f"s{n // 3}") for n in range(200)]
    found = run(history(clicks), settings)
    assert found.test_lists + found.without_relevant == found.tasks - int(found.tasks * 0.8)
    assert 0.0 < found.arm("shown").hit_rate_10.mean <= 1.0


def test_nothing_to_rank_is_explained(settings: Settings) -> None:
    with pytest.raises(SourceError, match="made up: 0 rankings in it; an evaluation needs impressions"):
        run(history([event(1, 0, item_id="a")]), settings)


def test_nothing_relevant_is_explained(settings: Settings) -> None:
    past = tasteful(50)
    views = [e for e in past.events if e.event_type == "impression"]
    with pytest.raises(SourceError, match="none of the 10 test rankings holds an item engaged with"):
        run(History(tuple(views), past.catalogue, {}, past.weights), settings)


def write(past: History, path: Path, extra: bytes = b"") -> Path:
    path.write_bytes(b"\n".join(map(encode, past.events)) + b"\n" + extra)
    return path


def test_a_file_is_read_once_and_in_order(tmp_path: Path, settings: Settings) -> None:
    past = tasteful(5)
    path = write(past, tmp_path / "events.jsonl", encode(past.events[0]) + b"\nnot json\n")
    found = read_history(path, "headrace", settings)
    assert found.events == past.events
    assert (found.duplicates, found.rejected) == (1, 1)


def test_a_file_without_events_is_explained(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{}\n[]\n")
    with pytest.raises(
        SourceError, match=r"no valid event in it \(2 records rejected\); is --format headrace"
    ):
        read_history(path, "headrace", settings)


def test_the_command_prints_the_table_and_writes_the_report(tmp_path: Path) -> None:
    path = write(tasteful(400), tmp_path / "events.jsonl")
    report = tmp_path / "runs" / "report.json"
    result = CliRunner().invoke(app, ["evaluate", "--data", str(path), "--report", str(report)])
    assert result.exit_code == 0, result.output
    for name in ARMS:
        assert name in result.output
    assert "gate, on history" in result.output
    figures = json.loads(report.read_text())
    assert [arm["name"] for arm in figures["arms"]] == ARMS
    assert figures["events"] == 800
    assert (
        figures["arms"][5]["versus"]["popularity"]["low"]
        <= figures["arms"][5]["versus"]["popularity"]["high"]
    )


def test_the_command_names_a_missing_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path / "none.jsonl")])
    assert isinstance(result.exception, SourceError)
    assert "none.jsonl: no such file" in str(result.exception)


def test_the_command_names_a_report_it_cannot_write(tmp_path: Path) -> None:
    path = write(tasteful(60), tmp_path / "events.jsonl")
    result = CliRunner().invoke(app, ["evaluate", "--data", str(path), "--report", str(path / "report.json")])
    assert isinstance(result.exception, SettingsError)
    assert "--report" in str(result.exception)
    assert "cannot be written" in str(result.exception)
