from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from feature_repo.errors import LakeError
from feature_repo.group import DType
from quality.checks.figures import Figures, FiguresCollector, failing_features, load_figures, save_figures
from quality.checks.results import CheckReport, CheckResult
from quality.parity import (
    FeatureParity,
    GroupParity,
    Late,
    Recomputed,
    Served,
    compare,
    parity_report,
    relative_error,
    sampled_by_hash,
)
from tests.support.quality_data import plain, taste

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
GROUP = taste(*plain(rate=DType.FLOAT64, keys=DType.STRINGS, weights=DType.FLOAT64S, seen=DType.TIMESTAMP))


def offline(n: int) -> dict[str, Any]:
    return {"rate": 0.5 + n, "keys": ["a", f"k{n}"], "weights": [1.0, n / 3], "seen": NOW}


def served(n: int, **change: Any) -> Served:
    values = {**offline(n), "seen": NOW.isoformat()} | change
    return Served("taste", f"u{n}", values, NOW, f"r{n}")


def run(*pairs: tuple[Served, Recomputed]) -> GroupParity:
    return compare(GROUP, pairs)


def failures(measured: GroupParity, budget: float = 0.001) -> dict[str, CheckResult]:
    return {r.column: r for r in parity_report({"taste": measured}, budget).failures}


def test_equal_rows_are_equal_through_json_and_rounding() -> None:
    pairs = [(served(n, rate=0.5 + n + 1e-12), offline(n)) for n in range(50)]
    measured = run(*pairs)
    assert failures(measured) == {}
    assert {f: c.compared for f, c in measured.features.items()} == dict.fromkeys(GROUP.feature_names, 50)


def test_a_skew_of_one_percent_in_the_values_of_one_feature_is_caught() -> None:
    measured = run(*[(served(n, rate=(0.5 + n) * 1.01), offline(n)) for n in range(200)])
    found = failures(measured)
    assert set(found) == {"taste.rate"}
    assert found["taste.rate"].severity == "block"
    assert found["taste.rate"].observed.startswith(
        "200 of 200 values differ (1): 200 mismatched, 0 missing, 0 extra, relative error up to 0.01; "
        "e.g. request r0: served 0.505, offline 0.5"
    )
    assert measured.figures()["rate"]["relative_error"] == pytest.approx(0.01)


def test_a_skew_in_one_percent_of_the_rows_of_one_feature_is_caught() -> None:
    rows = [served(n, weights=[1.0]) if n % 100 == 7 else served(n) for n in range(1000)]
    measured = run(*[(row, offline(n)) for n, row in enumerate(rows)])
    assert set(failures(measured)) == {"taste.weights"}
    assert measured.figures()["weights"]["mismatch"] == 0.01


def test_differences_within_the_budget_pass() -> None:
    rows = [served(n, rate=-1.0) if n == 3 else served(n) for n in range(1000)]
    measured = run(*[(row, offline(n)) for n, row in enumerate(rows)])
    assert failures(measured, budget=0.001) == {}
    assert set(failures(measured, budget=0.0005)) == {"taste.rate"}


def test_missing_and_extra_values_are_told_apart() -> None:
    measured = run((served(1, rate=None), offline(1)), (served(2), {**offline(2), "rate": None}))
    counts = measured.features["rate"]
    assert (counts.missing, counts.extra, counts.mismatched, counts.differing) == (1, 1, 0, 2)


def test_late_and_unknown_rows_are_counted_and_only_warn() -> None:
    measured = run((served(1), Late), (served(2), None), (served(3), offline(3)))
    assert (measured.rows, measured.late, measured.unknown) == (3, 1, 1)
    report = parity_report({"taste": measured}, 0.001)
    assert report.passed
    assert [r.message for r in report.failures] == [
        "taste: 1 of 3 served rows; wanted at most 0.1 of them",
        "taste: 1 of 3 served rows; wanted at most 0.1 of them",
    ]


def test_a_day_without_a_sample_warns() -> None:
    report = parity_report({}, 0.001)
    assert [r.message for r in report.failures] == ["table: 0 served rows sampled; wanted at least 1"]
    assert report.passed


@pytest.mark.parametrize(
    ("online", "other", "error"),
    [
        (1.01, 1.0, 0.01),
        (1, 2, 0.5),
        (0.0, 0.0, 0.0),
        (1.0, 0.0, 1.0),
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([], [], 0.0),
        ([1.0], [1.0, 2.0], 1.0),
        ("a", "b", 1.0),
        ("a", "a", 0.0),
        (math.inf, 1.0, 1.0),
    ],
)
def test_relative_errors(online: Any, other: Any, error: float) -> None:
    assert relative_error(online, other) == pytest.approx(error)


def test_the_sample_is_decided_by_the_request_and_has_its_share() -> None:
    keys = [f"r{n}" for n in range(20_000)]
    chosen = [k for k in keys if sampled_by_hash(k, 0.05)]
    assert chosen == [k for k in keys if sampled_by_hash(k, 0.05)]
    assert 850 < len(chosen) < 1150
    assert all(sampled_by_hash(k, 1.0) for k in keys[:10])
    assert not any(sampled_by_hash(k, 0.0) for k in keys)


# Figures


def test_figures_are_kept_replaced_and_shown(tmp_path: Path, clock: Callable[[], datetime]) -> None:
    registry = CollectorRegistry()
    registry.register(FiguresCollector(tmp_path))
    for value in (0.5, 0.25):
        figures = Figures("taste", clock(), {"rate": {"psi": value}}, ("rate",))
        save_figures(tmp_path, "drift", figures)
    save_figures(tmp_path, "parity", Figures("taste", clock(), {"rate": {"mismatch": 0.0}}))
    assert [f.values for f in load_figures(tmp_path, "drift")] == [{"rate": {"psi": 0.25}}]
    labels = {"group": "taste", "feature": "rate"}
    assert registry.get_sample_value("headrace_drift", {**labels, "measure": "psi"}) == 0.25
    assert registry.get_sample_value("headrace_parity", {**labels, "measure": "mismatch"}) == 0.0
    assert registry.get_sample_value("headrace_drift_failing", {"group": "taste"}) == 1
    assert registry.get_sample_value("headrace_parity_failing", {"group": "taste"}) == 0


def test_damaged_figures_are_named(tmp_path: Path) -> None:
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / "taste.json").write_text("[]")
    with pytest.raises(LakeError, match=r"taste\.json: not figures of drift .* remove it"):
        load_figures(tmp_path, "drift")
    registry = CollectorRegistry()
    registry.register(FiguresCollector(tmp_path))
    assert b"headrace_drift" in generate_latest(registry)


def test_failing_features_stand_once_and_without_their_group() -> None:
    bad = CheckResult("n", "taste.rate", "block", False, "", "")
    report = CheckReport("parity", (bad, bad, CheckResult("n", "keys", "warn", False, "", "")))
    assert failing_features(report) == ("rate", "keys")


@pytest.mark.parametrize(
    ("online", "offline", "error"),
    [
        (2.0, 4.0, 0.5),
        (-1.0, 4.0, 1.25),
        (3, -4, 1.75),
        (0.0, 0.0, 0.0),
        (1e-9, 0.0, 1.0),  # undefined
        (math.inf, 1.0, 1.0),
        (math.nan, 1.0, 1.0),
        (1, 1.0, 0.0),
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([1.0], [1.0, 4.0], 1.0),
        ([], [], 0.0),
        ([1.0], 1.0, 1.0),
        ("a", "a", 0.0),
        ("a", "b", 1.0),
        ("1", 1, 1.0),
        (None, 0.0, 1.0),
        (["a", "b"], ["a", "c"], 1.0),
    ],
)
def test_how_far_apart_two_values_are(online: Any, offline: Any, error: float) -> None:
    assert relative_error(online, offline) == pytest.approx(error)


def test_budgets_are_met_up_to_their_edge() -> None:
    def passed(differing: int, late: int, unknown: int) -> dict[str, bool]:
        counts = FeatureParity(compared=100, mismatched=differing)
        group = GroupParity(rows=100, late=late, unknown=unknown, features={"rate": counts})
        report = parity_report({"taste": group}, 0.05, 0.2, 0.3)
        return {f"{r.name}/{r.column}": r.passed for r in report.results}

    names = (
        "expect_online_equals_offline/taste.rate",
        "expect_few_late_events/taste",
        "expect_few_unknown_rows/taste",
    )
    at_the_edge, beyond = passed(5, 20, 30), passed(6, 21, 31)
    assert [at_the_edge[n] for n in names] == [True, True, True]
    assert [beyond[n] for n in names] == [False, False, False]
    assert at_the_edge["expect_served_rows/"]


def test_nothing_served_is_a_warning_and_no_division() -> None:
    empty = GroupParity(features={"rate": FeatureParity()})
    found = {r.name: r for r in parity_report({"taste": empty}, 0.0, 0.0, 0.0).results}
    assert {name: r.passed for name, r in found.items()} == {
        "expect_served_rows": False,
        "expect_few_late_events": True,
        "expect_few_unknown_rows": True,
        "expect_online_equals_offline": True,
    }
    assert found["expect_served_rows"].severity == "warn"


def test_groups_are_reported_by_name() -> None:
    found = parity_report({n: GroupParity() for n in ("b", "a", "c")}, 0.1).results
    assert [r.column for r in found if r.name == "expect_few_late_events"] == ["a", "b", "c"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_sample_has_its_share_and_a_smaller_one_lies_within(share: float) -> None:
    keys = [f"r{n}" for n in range(4000)]
    taken = {key for key in keys if sampled_by_hash(key, share)}
    assert len(taken) == pytest.approx(4000 * share, abs=130)  # 4 standard deviations
    assert taken >= {key for key in keys if sampled_by_hash(key, share / 2)}
