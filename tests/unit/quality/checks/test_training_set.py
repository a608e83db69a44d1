from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import LakeError
from quality.checks.training_set import area_under_curve, check_training_set, leaks

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ROWS = 600


def table(**more: Any) -> pa.Table:
    """An honest set; a callable of `more` is given the labels."""
    rng = np.random.default_rng(3)
    label = rng.random(ROWS) < 0.2
    time = [NOW + timedelta(minutes=n // 6) for n in range(ROWS)]
    columns: dict[str, Any] = {
        "request_id": [f"r{n // 6}" for n in range(ROWS)],
        "item_id": [f"i{n}" for n in range(ROWS)],
        "position": [n % 6 for n in range(ROWS)],
        "decision_time": time,
        "label_click": label,
        "label_cart": label & (rng.random(ROWS) < 0.1),
        "label_time": [t + timedelta(minutes=1) if y else None for t, y in zip(time, label, strict=True)],
        "split": ["train" if n < 400 else "test" for n in (6 * (m // 6) for m in range(ROWS))],
        "user_profile__source": ["logged"] * ROWS,
        "user_profile__event_time": [NOW - timedelta(days=1)] * ROWS,
        "user_profile__rate": label + rng.normal(0, 1, ROWS),
        "user_profile__vip": rng.random(ROWS) < 0.5,
        "user_profile__name": [f"n{n % 7}" for n in range(ROWS)],
        "user_profile__keys": [["a"] * (n % 3) for n in range(ROWS)],
        "user_profile__seen": [NOW - timedelta(hours=n % 11) for n in range(ROWS)],
    }
    return pa.table(columns | {k: v(label) if callable(v) else v for k, v in more.items()})


@pytest.fixture
def failures(tmp_path: Path) -> Callable[[pa.Table], dict[str, str]]:
    def run(data: pa.Table) -> dict[str, str]:
        path = tmp_path / "as_of=1" / "data.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(data, path)
        report = check_training_set(path)
        return {r.column: f"{r.severity} {r.name} {r.message}" for r in report.failures}

    return run


Failures = Callable[[pa.Table], dict[str, str]]


def test_an_honest_set_passes_and_has_a_page(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(table(), path)
    report = check_training_set(path, tmp_path / "docs")
    assert report.failures == ()
    assert report.rows == ROWS
    assert report.docs == tmp_path / "docs" / "training_set.html"
    assert {r.name for r in report.results} >= {
        "expect_both_classes",
        "expect_feature_not_to_leak",
        "expect_feature_of_the_past",
        "expect_label_after_decision",
        "expect_request_in_one_split",
        "expect_splits_apart_in_time",
        "expect_table_row_count_to_be_between",
    }


@pytest.mark.parametrize(
    ("leak", "text"),
    [
        (lambda y: y * 3.0 + 0.5, "its value predicts the label with an area under the curve of 1.0000"),
        (lambda y: -y.astype(float), "its value predicts the label with an area under the curve of 0.0000"),
        (
            lambda y: [1.0 if v else None for v in y],
            "being null predicts the label with an area under the curve of 0",
        ),
        (
            lambda y: [None if v else "x" for v in y],
            "being null predicts the label with an area under the curve of 1",
        ),
        (lambda y: y, "its value predicts the label"),
        (lambda y: ["bought" if v else "left" for v in y], "its value predicts the label"),
        (lambda y: [["i"] if v else [] for v in y], "its value predicts the label"),
        (lambda y: [NOW - timedelta(days=int(v)) for v in y], "its value predicts the label"),
    ],
)
def test_a_feature_computed_from_the_label_is_caught(failures: Failures, leak: Any, text: str) -> None:
    found = failures(table(item_profile__leak=leak))
    assert list(found) == ["item_profile__leak"]
    assert found["item_profile__leak"].startswith("block expect_feature_not_to_leak item_profile__leak: ")
    assert text in found["item_profile__leak"]


def test_a_feature_from_the_future_is_caught(failures: Failures) -> None:
    times = [NOW - timedelta(days=1)] * (ROWS - 2) + [NOW + timedelta(days=9)] * 2
    found = failures(table(user_profile__event_time=times))
    assert found == {
        "user_profile__event_time": "block expect_feature_of_the_past user_profile__event_time: "
        "2 of 600 rows after their decision_time; wanted none"
    }


def test_a_label_before_its_decision_and_a_request_in_two_splits_are_caught(failures: Failures) -> None:
    found = failures(
        table(
            label_time=[NOW - timedelta(days=1)] * 3 + [None] * (ROWS - 3),
            split=["train" if n % 2 else "test" for n in range(ROWS)],
        )
    )
    assert "3 of 600 rows before their decision_time" in found["label_time"]
    assert "100 requests are in more than one split; wanted none" in found["split"]


@pytest.mark.parametrize(
    ("splits", "late", "rows"),
    [
        (["train"] * 300 + ["validation"] * 150 + ["test"] * 150, [], 0),
        (["train"] * 300 + ["validation"] * 150 + ["test"] * 150, [3, 310, 599], 2),  # the last has no next
        (["train"] * 300 + ["test"] * 300, [3], 1),
        (["test"] * 300 + ["train"] * 300, [], 300),
        (["train"] * ROWS, [3], 0),
    ],
)
def test_labels_earned_and_decisions_made_in_the_time_of_the_next_split_are_caught(
    failures: Failures, splits: list[str], late: list[int], rows: int
) -> None:
    times = [NOW + timedelta(days=1) if n in late else None for n in range(ROWS)]
    found = failures(table(split=splits, label_time=pa.array(times, pa.timestamp("us", "UTC"))))
    if not rows:
        assert found == {}
        return
    assert found == {
        "decision_time": "block expect_splits_apart_in_time decision_time: "
        f"{rows} rows decided or labelled after the next split began; wanted none"
    }


def test_a_split_of_another_name_blocks(failures: Failures) -> None:
    assert "e.g. 'dev'" in failures(table(split=["dev"] * ROWS))["split"]


def test_labels_must_be_there_and_of_both_classes(failures: Failures) -> None:
    found = failures(table(label_click=[False] * ROWS))
    assert "0 of 600 sampled rows positive; wanted rows of both classes" in found["label_click"]
    assert "no nulls" in failures(table(label_click=[None, True] * (ROWS // 2)))["label_click"]


def test_a_missing_column_is_named_and_an_empty_set_blocks(failures: Failures) -> None:
    assert (
        "column decision_time is absent" in failures(table().drop_columns(["decision_time"]))["decision_time"]
    )
    assert "0 rows; wanted ≥ 1 rows" in failures(table().slice(0, 0))[""]


def test_a_large_set_is_sampled_by_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quality.checks.training_set.SAMPLE_ROWS", 300)
    path = tmp_path / "data.parquet"
    pq.write_table(table(item_profile__leak=lambda y: y), path)
    report = check_training_set(path)
    assert [r.column for r in report.failures] == ["item_profile__leak"]
    [classes] = [r for r in report.results if r.name == "expect_both_classes"]
    rows = int(classes.observed.split(" of ")[1].split()[0])
    assert 150 < rows < 450
    assert rows % 6 == 0


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"data\.parquet: not a readable training set .* rebuild it"):
        check_training_set(path)


def test_too_few_rows_of_a_class_prove_no_leak() -> None:
    data = table(label_click=[True] * 5 + [False] * (ROWS - 5))
    assert leaks(data, "label_click", ["user_profile__rate"]) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=4, max_size=30))
def test_area_under_the_curve_equals_counting_pairs(pairs: list[tuple[int, bool]]) -> None:
    rows = [*pairs, (1, True), (2, False)]
    positives = [s for s, y in rows if y]
    negatives = [s for s, y in rows if not y]
    naive = (
        sum((p > n) + (p == n) / 2 for p in positives for n in negatives) / len(positives) / len(negatives)
    )
    scores, labels = np.array([float(s) for s, _ in rows]), np.array([y for _, y in rows])
    assert area_under_curve(scores, labels) == pytest.approx(naive)
