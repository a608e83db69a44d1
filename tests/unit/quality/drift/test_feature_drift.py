from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import BuildError, LakeError
from feature_repo.group import DType, Feature
from feature_repo.settings import Settings
from quality.drift.feature_drift import Thresholds, drift_report, measure_drift, report_of
from quality.pages.plots import write_plots
from tests.support.quality_data import taste

DAY = datetime(2024, 6, 1, tzinfo=UTC)
GROUP = taste(
    Feature("spend", DType.FLOAT64, "Money.", "EUR"),
    Feature("visits", DType.INT64, ""),
    Feature("mood", DType.STRING, ""),
    Feature("nick", DType.STRING, ""),
    Feature("keys", DType.STRINGS, "Likes."),
    Feature("weights", DType.FLOAT64S, ""),
    Feature("seen", DType.TIMESTAMP, ""),
    Feature("vip", DType.BOOL, ""),
)


def build(folder: Path, day: int, rows: int = 800, seed: int | None = None, **change: Any) -> Path:
    """A day's build, drawn again from the same distributions but for `change`."""
    rng = np.random.default_rng(day if seed is None else seed)
    now = DAY + timedelta(days=day)
    data: dict[str, list[Any]] = {
        "spend": list(np.where(rng.random(rows) < 0.2, np.nan, rng.lognormal(size=rows))),
        "visits": rng.poisson(0.7, rows).tolist(),
        "mood": rng.choice(["calm", "wild", "so$o"], rows, p=[0.6, 0.3, 0.1]).tolist(),
        "nick": [f"n{n}" for n in range(rows)],
        "keys": [list(rng.choice(list("abcdef"), n)) for n in rng.integers(0, 4, rows)],
        "weights": [list(rng.exponential(size=n)) for n in rng.integers(0, 4, rows)],
        "seen": [now - timedelta(hours=float(h)) for h in rng.exponential(30, rows)],
        "vip": (rng.random(rows) < 0.1).tolist(),
    }
    data["spend"] = [None if np.isnan(v) else float(v) for v in data["spend"]]
    data |= {name: make(rng, rows) for name, make in change.items()}
    columns = {**data, "user_id": [f"u{n}" for n in range(rows)]}
    columns |= {"event_timestamp": [now] * rows, "created_timestamp": [now] * rows}
    table = pa.Table.from_pydict(columns, schema=GROUP.arrow_schema)
    path = folder / f"day={day}.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("window")
    return [build(folder, day) for day in range(3)]


def drifted(window: list[Path], folder: Path, **change: Any) -> dict[str, list[str]]:
    report = drift_report(GROUP, build(folder, 9, **change), window)
    assert report.passed  # drift warns, it never blocks
    found: dict[str, list[str]] = {}
    for r in report.failures:
        found.setdefault(r.column, []).append(r.name)
    return found


def test_a_stable_day_is_quiet(window: list[Path], tmp_path: Path) -> None:
    report = drift_report(GROUP, build(tmp_path, 9), window)
    assert report.failures == ()
    assert (report.target, report.rows) == ("taste drift", 800)
    assert {r.column for r in report.results} == set(GROUP.feature_names)


@pytest.mark.parametrize(
    ("column", "make"),
    [
        ("spend", lambda rng, n: rng.lognormal(0.8, 1, n).tolist()),
        ("visits", lambda rng, n: rng.poisson(1.6, n).tolist()),
        ("mood", lambda rng, n: rng.choice(["calm", "wild", "so$o"], n, p=[0.2, 0.3, 0.5]).tolist()),
        ("keys", lambda rng, n: [list(rng.choice(list("abcxyz"), k)) for k in rng.integers(0, 4, n)]),
        ("weights", lambda rng, n: [list(3 * rng.exponential(size=k)) for k in rng.integers(0, 4, n)]),
        (
            "seen",
            lambda rng, n: [
                DAY + timedelta(days=9) - timedelta(hours=float(h) + 60) for h in rng.exponential(30, n)
            ],
        ),
        ("vip", lambda rng, n: (rng.random(n) < 0.9).tolist()),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_planted_shift_is_caught_in_its_feature_only(
    window: list[Path], tmp_path: Path, column: str, make: Any
) -> None:
    found = drifted(window, tmp_path, **{column: make})
    assert set(found) == {column}
    assert "expect_distribution_near_reference" in found[column] or "expect_psi_below" in found[column]


def test_nulls_are_caught_and_measured(window: list[Path], tmp_path: Path) -> None:
    found = drift_report(GROUP, build(tmp_path, 9, mood=lambda rng, n: [None] * n), window)
    by_name = {(r.column, r.name): r for r in found.failures}
    message = by_name["mood", "expect_null_share_near_reference"].message
    assert message == "mood: share of nulls 1, before 0; wanted a change of at most 0.1"


@pytest.mark.parametrize(
    ("rows", "nulls", "caught"),
    [(1, 1, False), (3, 1, False), (5, 2, False), (12, 6, False), (40, 40, True), (200, 60, True)],
)
def test_a_null_more_in_a_tiny_group_is_chance_and_many_in_a_larger_one_are_not(
    tmp_path: Path, rows: int, nulls: int, caught: bool
) -> None:
    before = [build(tmp_path, day, rows) for day in range(7)]
    after = build(tmp_path, 9, rows, mood=lambda rng, n: [None] * nulls + ["calm"] * (n - nulls))
    failed = {(r.column, r.name) for r in drift_report(GROUP, after, before).failures}
    assert (("mood", "expect_null_share_near_reference") in failed) == caught


@pytest.mark.parametrize("rows", [1, 8, 31])
def test_stable_days_of_a_tiny_group_are_quiet(tmp_path: Path, rows: int) -> None:
    days = [build(tmp_path, day, rows) for day in range(11)]
    for day in range(7, 11):
        assert drift_report(GROUP, days[day], days[day - 7 : day]).failures == ()


def test_distinct_values_that_collapse_are_caught(window: list[Path], tmp_path: Path) -> None:
    found = drift_report(
        GROUP, build(tmp_path, 9, nick=lambda rng, n: [f"n{i % 100}" for i in range(n)]), window
    )
    messages = [r.message for r in found.failures if r.name == "expect_cardinality_near_reference"]
    assert len(messages) == 1
    assert re.match(
        r"nick: \d+ distinct values, before \d+; wanted a change of at most 0.5 of it", messages[0]
    )


def test_thresholds_come_from_the_settings(window: list[Path], tmp_path: Path) -> None:
    assert Thresholds.of(Settings()) == Thresholds()
    current = build(tmp_path, 9, spend=lambda rng, n: rng.lognormal(0.8, 1, n).tolist())
    lax = Thresholds.of(Settings(drift_psi=9, drift_shift=1, drift_null_share=1))
    assert drift_report(GROUP, current, window, lax).failures == ()


def test_too_few_rows_measure_no_distance(window: list[Path], tmp_path: Path) -> None:
    names = {r.name for r in drift_report(GROUP, build(tmp_path, 9, rows=20), window).results}
    assert "expect_psi_below" not in names
    assert "expect_null_share_near_reference" in names


def test_an_empty_build_and_an_empty_window_are_measured(window: list[Path], tmp_path: Path) -> None:
    assert drift_report(GROUP, build(tmp_path, 9, rows=0), window).rows == 0
    assert drift_report(GROUP, window[0], [build(tmp_path, 8, rows=0)]).rows == 800


def test_a_large_build_is_sampled_alike_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quality.drift.feature_drift.SAMPLE_ROWS", 200)
    before, after = build(tmp_path, 0, 2000), build(tmp_path, 1, 2000)
    spend = next(d for d in measure_drift(GROUP, after, [before], Thresholds()) if d.feature.name == "nick")
    assert 120 < spend.current.rows < 280
    assert list(spend.current.values) == list(spend.reference.values)


def test_missing_references_and_torn_files_are_named(window: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="taste: drift needs at least one earlier build as reference"):
        drift_report(GROUP, window[0], [])
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"torn\.parquet"):
        drift_report(GROUP, torn, window)


def test_figures_for_metrics(window: list[Path], tmp_path: Path) -> None:
    measured = measure_drift(GROUP, build(tmp_path, 9), window, Thresholds())
    figures = {d.feature.name: d.figures() for d in measured}
    assert set(figures["spend"]) == {"null_share", "null_share_change", "psi", "shift", "cardinality_change"}
    assert figures["spend"]["null_share"] == pytest.approx(0.2, abs=0.05)
    assert "cardinality_change" not in figures["weights"]


def test_a_plot_per_feature_and_a_page(window: list[Path], tmp_path: Path) -> None:
    current = build(
        tmp_path, 9, spend=lambda rng, n: rng.lognormal(2, 1, n).tolist(), mood=lambda rng, n: [None] * n
    )
    measured = measure_drift(GROUP, current, window, Thresholds())
    page = write_plots(measured, report_of(GROUP, measured, Thresholds(), 800), tmp_path / "plots")
    text = page.read_text()
    assert {p.stem for p in page.parent.glob("*.png")} == set(GROUP.feature_names) - {"mood"}
    assert (page.parent / "spend.png").read_bytes().startswith(b"\x89PNG")
    assert text.index("<b>mood</b>") < text.index("<b>spend</b>") < text.index("<b>keys</b>")
    assert "population stability index" in text
    assert "2 of 8 features drifted" in text
