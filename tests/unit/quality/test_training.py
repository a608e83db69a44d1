from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.training import area_under_curve, check_training_set, leaks

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ROWS = 600


def table(**more: Any) -> pa.Table:
    rng = np.random.default_rng(3)
    label = (rng.random(ROWS) < 0.2).astype(np.int64)
    columns: dict[str, Any] = {
        "request_id": [f"r{n}" for n in range(ROWS)],
        "decided_at": [NOW + timedelta(minutes=n) for n in range(ROWS)],
        "computed_at": [NOW - timedelta(days=1)] * ROWS,
        "label": label,
        "honest": label + rng.normal(0, 1, ROWS),
        "flag": rng.random(ROWS) < 0.5,
        "name": [f"n{n % 7}" for n in range(ROWS)],
    }
    return pa.table(columns | {k: v(label) if callable(v) else v for k, v in more.items()})


def failures(data: pa.Table) -> dict[str, str]:
    report = check_training_set(
        data, label="label", time="decided_at", keys=["request_id"], computed={"honest": "computed_at"}
    )
    return {r.column: f"{r.severity} {r.name} {r.message}" for r in report.failures}


def test_an_honest_set_passes() -> None:
    assert failures(table()) == {}


@pytest.mark.parametrize(
    ("leak", "text"),
    [
        (lambda y: y * 3.0 + 0.5, "its value tells the label with an area under the curve of 1.0000"),
        (lambda y: -y.astype(float), "its value tells the label with an area under the curve of 0.0000"),
        (
            lambda y: [1.0 if v else None for v in y],
            "being null tells the label with an area under the curve of 0",
        ),
        (
            lambda y: [None if v else "x" for v in y],
            "being null tells the label with an area under the curve of 1",
        ),
        (lambda y: y.astype(bool), "its value tells the label"),
    ],
)
def test_a_feature_computed_from_the_label_is_caught(leak: Any, text: str) -> None:
    found = failures(table(leak=leak))
    assert list(found) == ["leak"]
    assert found["leak"].startswith("block expect_feature_not_to_leak leak: ")
    assert text in found["leak"]


def test_a_feature_from_the_future_is_caught() -> None:
    found = failures(
        table(computed_at=[NOW - timedelta(days=1)] * (ROWS - 2) + [NOW + timedelta(days=9)] * 2)
    )
    assert found["honest"] == (
        "block expect_feature_of_the_past honest: 2 of 600 rows computed after their decision "
        "(computed_at > decided_at); wanted none"
    )


def test_labels_must_be_there_and_of_both_classes() -> None:
    assert "300 of 600 rows outside" in failures(table(label=[2, 0] * (ROWS // 2)))["label"]
    assert "0 of 600 rows positive; wanted rows of both classes" in failures(table(label=[0] * ROWS))["label"]
    assert "no nulls" in failures(table(label=pa.array([None, 1] * (ROWS // 2), pa.int64())))["label"]


def test_an_empty_set_blocks() -> None:
    assert "0 rows; wanted ≥ 1 rows" in failures(table().slice(0, 0))[""]


def test_too_few_rows_of_a_class_prove_no_leak() -> None:
    assert leaks(table(label=[1] * 5 + [0] * (ROWS - 5)), "label", ["honest"]) == []


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
