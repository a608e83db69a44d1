"""Evaluation of made-up histories, and the command with its messages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from feature_repo.contract.validation import Event, encode
from feature_repo.errors import SettingsError, SourceError
from feature_repo.settings import Settings
from orchestration.cli import app
from orchestration.evaluation.evaluate import Evaluation, Plan, evaluate
from orchestration.evaluation.history import History, read_history
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from tests.support.history_data import event, history, tasteful

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
    assert found.serves in {"fitted", "segment_taste"}, "a segment is who likes the same category"
    assert not found.harm


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
    assert "best rule in hindsight" in result.output
    assert "harm: none" in result.output
    assert "lists without a touched item" in result.output
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidates", "newest:10:1h"], "write popular:COUNT:SPAN"),
        (["--metric", "auc"], "--metric auc: unknown; there are ndcg, mrr, map, hit, recall, precision"),
        (["--label", "gift"], "--label gift: no event of that type names an item"),
        (["--format", "nonsense"], "--format nonsense: not a format; the formats are"),
    ],
)
def test_options_that_cannot_be_are_explained(tmp_path: Path, options: list[str], message: str) -> None:
    path = write(tasteful(10), tmp_path / "events.jsonl")
    result = CliRunner().invoke(app, ["evaluate", "--data", str(path), *options])
    assert isinstance(result.exception, SettingsError | SourceError)
    assert message in str(result.exception)


@pytest.mark.parametrize(("split", "bound"), [("0", "0.05"), ("1", "0.95"), ("1.5", "0.95")])
def test_a_split_without_history_or_test_is_refused(tmp_path: Path, split: str, bound: str) -> None:
    path = write(tasteful(10), tmp_path / "events.jsonl")
    result = CliRunner().invoke(app, ["evaluate", "--data", str(path), "--split", split])
    assert result.exit_code == 2
    assert bound in result.output
    assert "--split" in result.output


def test_the_split_moves_the_border(settings: Settings) -> None:
    past = tasteful(100)
    half = evaluate(past, settings, replace(PLAN, split=0.5), data="x", fmt="headrace")
    assert (half.history_lists, half.test_lists) == (50, 50)
    assert half.test_from == find_tasks(past, PLAN.candidates)[50].time


def test_a_sample_of_the_lists_will_do(settings: Settings) -> None:
    found = evaluate(tasteful(400), settings, replace(PLAN, max_lists=120), data="x", fmt="headrace")
    assert 80 < found.tasks < 160


def test_the_headline_is_the_metric_asked_for(settings: Settings) -> None:
    found = evaluate(tasteful(400), settings, replace(PLAN, metric="mrr"), data="x", fmt="headrace")
    shown, popular, blend = (found.arm(name) for name in ("shown", "popularity", "blend"))
    assert found.metric == "mrr"
    assert popular.versus["shown"].mean == pytest.approx(popular.mrr.mean - shown.mrr.mean)
    best = max(found.rules, key=lambda rule: rule.mrr.mean)
    assert found.best_rule == best.name
    assert found.against_best_rule.mean == pytest.approx(blend.mrr.mean - best.mrr.mean)


def test_the_rules_are_those_of_the_data_and_base_is_the_order_shown(settings: Settings) -> None:
    found = run(tasteful(400), settings)
    assert {"base", "ctr", "touched_first", "covisit_last"} <= {rule.name for rule in found.rules}
    assert found.arm("base").ndcg_10 == found.arm("shown").ndcg_10


def test_harm_is_named_where_what_serves_is_below_the_best_rule(settings: Settings) -> None:
    """The cause changes after the history: what served well is far below the rule that is right now."""
    before, after = tasteful(500, loyalty=1.0), tasteful(900, loyalty=1.0, seed=6)
    turned = tuple(
        msgspec.structs.replace(e, item_id=_popular(e.request_id, after)) if e.item_id else e
        for e in after.events[1000:]
    )
    found = run(History((*before.events, *turned), before.catalogue, {}, before.weights), settings)
    assert found.serves != found.best_rule
    assert found.against_best_rule.high < 0.0
    assert found.harm
    assert not run(tasteful(500, loyalty=1.0), settings).harm


def _popular(request_id: str | None, past: History) -> str:
    """The item of a list with the smallest number, whoever asks."""
    [shown] = [e for e in past.events if e.request_id == request_id and e.items]
    return min((slot.item_id for slot in shown.items), key=lambda item_id: int(item_id[1:]))


def test_a_label_counts_only_its_events(settings: Settings) -> None:
    past = tasteful(200)
    bought = tuple(
        msgspec.structs.replace(e, event_type="purchase") if e.item_id and n % 4 == 1 else e
        for n, e in enumerate(past.events)
    )
    labelled = History(bought, past.catalogue, {}, {**past.weights, "purchase": 5.0})
    tasks = find_tasks(labelled, PLAN.candidates, label="purchase")
    assert sum(bool(task.relevant) for task in tasks) == sum(e.event_type == "purchase" for e in bought)
    assert sum(bool(task.relevant) for task in find_tasks(labelled, PLAN.candidates)) == 200
    with pytest.raises(SourceError, match="--label gift: no event of that type names an item; there are: "):
        find_tasks(labelled, PLAN.candidates, label="gift")


def test_a_label_without_impressions_ranks_items_the_session_has_touched_too() -> None:
    def visit(session: int) -> list[Event]:
        start, items = 60.0 * session, (f"i{session % 3}", f"i{(session + 1) % 3}")
        views = [
            event(10 * session + n, start + n, item_id=i, session_id=f"s{session}")
            for n, i in enumerate(items)
        ]
        bought = event(10 * session + 5, start + 5, "purchase", item_id=items[0], session_id=f"s{session}")
        return [*views, bought]

    past = history([e for session in range(20) for e in visit(session)])
    past = History(past.events, past.catalogue, {}, {**past.weights, "purchase": 5.0})
    tasks = find_tasks(past, PLAN.candidates, label="purchase")
    assert len(tasks) == 20
    assert all(task.relevant <= set(task.item_ids) for task in tasks)


def test_an_evaluation_is_repeatable(settings: Settings) -> None:
    past = tasteful(400)
    assert msgspec.json.encode(run(past, settings)) == msgspec.json.encode(run(past, settings))


def test_arms_see_their_own_group_only(settings: Settings) -> None:
    """A session's taste shows in the session arm although the users' long-term taste is nothing."""
    past = tasteful(800, users=1, session_lists=40, loyalty=1.0)
    anonymous = tuple(msgspec.structs.replace(e, user_id=None) for e in past.events)
    found = run(History(anonymous, past.catalogue, {}, past.weights), settings)
    assert found.arm("session").versus["shown"].above_zero
    assert found.arm("session").ndcg_10.mean > found.arm("long_term").ndcg_10.mean - 0.02
