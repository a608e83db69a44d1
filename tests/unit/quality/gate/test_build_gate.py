from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from feature_repo.errors import BuildError, LakeError
from quality.checks.results import CheckReport, CheckResult
from quality.gate.build_gate import ACCEPTED, AcceptedLoss, Gate, GateState
from quality.gate.gate_metrics import GateCollector

DAY = datetime(2024, 6, 1, tzinfo=UTC)
PASS = CheckResult("expect_x", "a", "block", True, "0 of 9 rows null", "no nulls")
FAIL = replace(PASS, passed=False, observed="3 of 9 rows null (0.3333)")
WARN = replace(FAIL, severity="warn", column="b")


def report(*results: CheckResult, rows: int = 100, docs: Path | None = None) -> CheckReport:
    return CheckReport("taste", results, rows, docs)


@pytest.fixture
def gate(tmp_path: Path, clock: Callable[[], datetime]) -> Gate:
    return Gate(tmp_path, clock)


def test_before_the_first_check_nothing_is_known(gate: Gate) -> None:
    assert gate.state("taste") == GateState("taste")
    assert not gate.state("taste").open
    assert gate.states() == []


def test_a_pass_is_the_last_good_build(gate: Gate, clock: Callable[[], datetime], tmp_path: Path) -> None:
    gate.judge("taste", DAY, report(PASS, WARN, docs=tmp_path / "taste.html"))
    state = gate.state("taste")
    assert state.open
    assert state.good is not None
    assert (state.good.as_of, state.good.checked, state.good.rows) == (DAY, clock(), 100)
    assert state.good.docs.endswith("taste.html")
    assert state.warnings == ("b: 3 of 9 rows null (0.3333); wanted no nulls",)


def test_a_failure_keeps_the_last_good_build_and_says_why(gate: Gate) -> None:
    gate.judge("taste", DAY, report(PASS))
    judged = gate.judge("taste", DAY + timedelta(days=1), report(PASS, FAIL))
    assert not judged.passed
    state = gate.state("taste")
    assert not state.open
    assert state.good is not None
    assert state.good.as_of == DAY
    assert [(b.as_of, b.reasons) for b in state.blocked] == [
        (DAY + timedelta(days=1), ("a: 3 of 9 rows null (0.3333); wanted no nulls",))
    ]


def test_a_later_pass_opens_the_gate_again(gate: Gate) -> None:
    gate.judge("taste", DAY, report(FAIL))
    gate.judge("taste", DAY + timedelta(days=1), report(PASS))
    assert gate.state("taste").open


def test_a_rerun_that_passes_takes_its_block_away(gate: Gate) -> None:
    for results in ((FAIL,), (FAIL,), (PASS,)):
        gate.judge("taste", DAY, report(*results))
        assert len(gate.state("taste").blocked) == (results != (PASS,))


def test_a_good_build_stays_the_last_good_one_when_its_rerun_fails(gate: Gate) -> None:
    gate.judge("taste", DAY, report(PASS))
    before = gate.state("taste").good
    gate.judge("taste", DAY, report(FAIL))
    state = gate.state("taste")
    assert (state.good, [b.as_of for b in state.blocked], state.open) == (before, [DAY], False)


@pytest.mark.parametrize(("rows", "passes"), [(50, True), (49, False)])
def test_every_rerun_as_of_the_same_time_is_compared(gate: Gate, rows: int, passes: bool) -> None:
    gate.judge("taste", DAY, report(PASS, rows=100))
    for _ in range(3):  # a block must not make the next try pass
        assert gate.judge("taste", DAY, report(PASS, rows=rows)).passed == passes
        gate.judge("taste", DAY, report(PASS, rows=100))
        gate.judge("taste", DAY, report(FAIL, rows=rows))


def test_a_backfill_of_an_older_day_may_hold_less(gate: Gate) -> None:
    gate.judge("taste", DAY, report(PASS, rows=100))
    assert gate.judge("taste", DAY - timedelta(days=5), report(PASS, rows=3)).passed


def test_checks_at_once_forget_nothing(gate: Gate) -> None:
    days = [DAY + timedelta(days=n) for n in range(30)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda day: gate.judge("taste", day, report(FAIL)), days))
    assert [b.as_of for b in gate.state("taste").blocked] == days


def test_a_backfill_does_not_lift_the_block_of_another_day(gate: Gate) -> None:
    gate.judge("taste", DAY, report(PASS))
    gate.judge("taste", DAY, report(FAIL))
    gate.judge("taste", DAY - timedelta(days=2), report(PASS))
    assert [b.as_of for b in gate.state("taste").blocked] == [DAY]


def test_a_backfill_of_an_old_day_does_not_move_the_last_good_build_back(gate: Gate) -> None:
    gate.judge("taste", DAY, report(PASS))
    gate.judge("taste", DAY + timedelta(days=1), report(FAIL))
    gate.judge("taste", DAY - timedelta(days=9), report(PASS))
    state = gate.state("taste")
    assert state.good is not None
    assert state.good.as_of == DAY
    assert len(state.blocked) == 1


@pytest.mark.parametrize(("rows", "passes"), [(50, True), (49, False), (500, True)])
def test_a_build_that_lost_half_its_rows_is_held_back(gate: Gate, rows: int, passes: bool) -> None:
    gate.judge("taste", DAY, report(PASS, rows=100))
    judged = gate.judge("taste", DAY + timedelta(days=1), report(PASS, rows=rows))
    assert judged.passed == passes
    hint = "" if passes else "; if the loss is correct: `headrace quality accept-rows taste`"
    assert judged.results[-1].message == (
        f"table: {rows} rows, 100 in the last good build; wanted at least 50 rows{hint}"
    )


def test_a_loss_that_is_right_is_accepted_once_and_noted(
    gate: Gate, tmp_path: Path, clock: Callable[[], datetime]
) -> None:
    days = [DAY + timedelta(days=n) for n in range(4)]
    gate.judge("taste", days[0], report(PASS, rows=100))
    assert not gate.judge("taste", days[1], report(PASS, rows=30)).passed
    loss = gate.accept_loss("taste", "ada", "a shorter look-back")
    assert (loss.rows, loss.of, loss.as_of, loss.accepted) == (30, 100, days[1], clock())
    judged = gate.judge("taste", days[1], report(PASS, rows=30))
    assert judged.passed
    assert judged.results[-1].observed == "30 rows, 100 in the last good build, 30 accepted"
    state = gate.state("taste")
    assert (state.open, state.accepted) == (True, None)
    assert not gate.judge("taste", days[2], report(PASS, rows=14)).passed  # measured against 30 now
    [line] = (tmp_path / "gate" / ACCEPTED).read_bytes().splitlines()
    assert msgspec.json.decode(line, type=AcceptedLoss) == loss


def test_an_accepted_loss_holds_until_a_build_passes(gate: Gate) -> None:
    gate.judge("taste", DAY, report(PASS, rows=100))
    later = DAY + timedelta(days=1)
    gate.judge("taste", later, report(PASS, rows=30))
    gate.accept_loss("taste", "ada", "right")
    assert not gate.judge("taste", later, report(FAIL, rows=30)).passed
    assert not gate.judge("taste", later, report(PASS, rows=14)).passed
    assert gate.judge("taste", later, report(PASS, rows=15)).passed


@pytest.mark.parametrize("before", [(), (PASS,), (FAIL,)])
def test_no_loss_no_acceptance(gate: Gate, before: tuple[CheckResult, ...]) -> None:
    if before:
        gate.judge("taste", DAY, report(*before))
    with pytest.raises(BuildError, match="taste: no build is held back for a loss of rows; see `headrace st"):
        gate.accept_loss("taste", "ada", "why not")


def test_the_share_that_may_be_lost_is_the_callers(gate: Gate) -> None:
    gate.judge("taste", DAY, report(PASS, rows=100))
    assert gate.judge("taste", DAY + timedelta(days=1), report(PASS, rows=10), max_row_drop=0.95).passed


def test_status_rows_say_state_last_good_and_reason(gate: Gate) -> None:
    gate.judge("a", DAY, report(PASS))
    gate.judge("b", DAY, report(WARN))
    gate.judge("c", DAY, report(FAIL, replace(FAIL, column="z")))
    rows = {row.group: row for row in gate.status()}
    assert [rows[g].state for g in "abc"] == ["good", "warning", "blocked"]
    assert rows["a"].last_good == "2024-06-01T00:00+00:00"
    assert rows["c"].last_good == "never"
    assert rows["c"].detail == (
        "build as of 2024-06-01T00:00+00:00: a: 3 of 9 rows null (0.3333); wanted no nulls (+1 more)"
    )


def test_metrics_are_read_at_each_scrape(gate: Gate) -> None:
    registry = CollectorRegistry()
    registry.register(GateCollector(gate))
    assert b'headrace_gate_blocked{group="taste"}' not in generate_latest(registry)
    gate.judge("taste", DAY, report(PASS, WARN))
    gate.judge("taste", DAY + timedelta(days=1), report(FAIL))
    text = generate_latest(registry).decode()
    assert 'headrace_gate_blocked{group="taste"} 1.0' in text
    assert registry.get_sample_value("headrace_gate_last_good_seconds", {"group": "taste"}) == DAY.timestamp()
    assert 'headrace_gate_warnings{group="taste"} 0.0' in text


def test_a_damaged_state_file_is_named(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "taste.json").write_text("{")
    with pytest.raises(LakeError, match=r"taste\.json: not a gate state .* remove it"):
        gate.state("taste")


def test_a_damaged_state_file_does_not_break_the_metrics(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "taste.json").write_text("{")
    registry = CollectorRegistry()
    registry.register(GateCollector(gate))
    assert b"headrace_gate_blocked" in generate_latest(registry)


JUDGED = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([40, 50, 60, 100])), max_size=8)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JUDGED)
def test_any_order_of_builds_reruns_and_backfills(
    tmp_path_factory: pytest.TempPathFactory, judged: list[tuple[int, bool, int]]
) -> None:
    """By day: the newest pass is the good one, what was held back since is blocked, the older is settled."""
    gate = Gate(tmp_path_factory.mktemp("gate"), lambda: DAY)
    good: tuple[int, int] | None = None
    blocked: dict[int, bool] = {}
    for day, fine, rows in judged:
        found = gate.judge("taste", DAY + timedelta(days=day), report(PASS if fine else FAIL, rows=rows), 0.5)
        enough = good is None or good[0] > day or rows >= good[1] * 0.5
        assert found.passed == (fine and enough)
        if not (fine and enough):
            blocked[day] = enough
        elif good is not None and good[0] > day:
            blocked.pop(day, None)
        else:
            good = (day, rows)
            blocked = {other: why for other, why in blocked.items() if other > day}
        state = gate.state("taste")
        held = None if state.good is None else ((state.good.as_of - DAY).days, state.good.rows)
        assert held == good
        assert [(b.as_of - DAY).days for b in state.blocked] == sorted(blocked)
        assert [b.lost_to is None for b in state.blocked] == [blocked[day] for day in sorted(blocked)]
        assert state.open == (good is not None and not blocked)


def test_the_status_tells_how_many_more_reasons_there_are(gate: Gate) -> None:
    gate.judge("a", DAY, report(PASS))
    gate.judge("b", DAY, report(FAIL))
    gate.judge("c", DAY, report(FAIL, replace(FAIL, column="z"), replace(FAIL, column="y")))
    gate.judge("d", DAY, report(PASS, WARN))
    rows = {row.group: (row.state, row.last_good, row.detail) for row in gate.status()}
    reason = "build as of 2024-06-01T00:00+00:00: a: 3 of 9 rows null (0.3333); wanted no nulls"
    assert list(rows) == ["a", "b", "c", "d"]
    assert rows["a"] == ("good", "2024-06-01T00:00+00:00", "")
    assert rows["b"] == ("blocked", "never", reason)
    assert rows["c"] == ("blocked", "never", f"{reason} (+2 more)")
    assert rows["d"][:2] == ("warning", "2024-06-01T00:00+00:00")
