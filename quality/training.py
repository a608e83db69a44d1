"""Checks of a training set: rows and labels are there, features are of the past, none gives the label away.

A feature computed from the label separates the classes almost perfectly; so does a feature that is null for
one class only. Neither happens honestly, so a feature whose area under the curve is near 0 or 1 blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quality.checks import CheckReport, CheckResult, check
from quality.suites import ANY_VALUE, Rule, Suite

LEAK_AUC = 0.99
"""Area under the curve (of values or of being null) from which a single feature counts as a leak."""
LEAST_CLASS = 20
"""Rows of each class below which separation means nothing."""


def training_suite(schema: pa.Schema, label: str, keys: Sequence[str], time: str) -> Suite:
    """Rules of a training set of these columns: keys, time and label present, label 0 or 1, floats finite."""
    rules = [Rule("columns"), Rule("row_count_between", minimum=1)]
    rules += [Rule("not_null", (name,)) for name in (*keys, time, label)]
    rules.append(Rule("between", (label,), minimum=0, maximum=1))
    for field in schema:
        if field.name in {*keys, time, label}:
            continue
        rules.append(Rule("not_null", (field.name,), mostly=ANY_VALUE, severity="warn"))
        value = field.type.value_type if pa.types.is_list(field.type) else field.type
        if pa.types.is_floating(value):
            rules.append(Rule("finite", (field.name,)))
    return Suite("training_set", schema, ()).with_overrides(rules)


def check_training_set(
    table: pa.Table,
    *,
    label: str,
    time: str,
    keys: Sequence[str],
    computed: Mapping[str, str] | None = None,
    docs: Path | None = None,
) -> CheckReport:
    """Check a training set.

    Args:
        table: one row per shown item.
        label: column of 0 and 1.
        time: column of the decision's time.
        keys: columns that name a row (request, item, …).
        computed: feature column → column of the time that feature was computed as of.
        docs: folder of the Data Docs.
    """
    report = check(training_suite(table.schema, label, keys, time), table, docs)
    features = [n for n in table.column_names if n not in {*keys, time, label, *(computed or {}).values()}]
    extra = [_both_classes(table, label), *leaks(table, label, features)]
    extra += [_of_the_past(table, time, feature, of) for feature, of in (computed or {}).items()]
    return replace(report, results=(*report.results, *extra))


def leaks(table: pa.Table, label: str, features: Sequence[str], limit: float = LEAK_AUC) -> list[CheckResult]:
    """How well each feature alone tells the label, by its values and by where it is null."""
    labels = _numbers(table[label]) > 0
    if min(labels.sum(), (~labels).sum()) < LEAST_CLASS:
        return []
    found = []
    for name in features:
        column = table[name]
        nulls = np.asarray(pc.is_null(column), dtype=np.float64)
        areas = {"being null": area_under_curve(nulls, labels)}
        if (
            pa.types.is_integer(column.type)
            or pa.types.is_floating(column.type)
            or pa.types.is_boolean(column.type)
        ):
            values = _numbers(column)
            known = np.isfinite(values)
            if min(labels[known].sum(), (~labels[known]).sum()) >= LEAST_CLASS:
                areas["its value"] = area_under_curve(values[known], labels[known])
        what, area = max(areas.items(), key=lambda item: abs(item[1] - 0.5))
        passed = abs(area - 0.5) < limit - 0.5
        observed = f"{what} tells the label with an area under the curve of {area:.4f}"
        wanted = f"between {1 - limit:.2f} and {limit:.2f}; a feature computed from the label must go"
        found.append(CheckResult("expect_feature_not_to_leak", name, "block", passed, observed, wanted))
    return found


def area_under_curve(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative, ties half: the Mann–Whitney statistic over n · m."""
    from scipy.stats import rankdata  # noqa: PLC0415

    positives, negatives = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _numbers(column: Any) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _both_classes(table: pa.Table, label: str) -> CheckResult:
    positives = int(np.nansum(_numbers(table[label]) > 0))
    observed = f"{positives:,} of {table.num_rows:,} rows positive"
    passed = 0 < positives < table.num_rows
    return CheckResult("expect_both_classes", label, "warn", passed, observed, "rows of both classes")


def _of_the_past(table: pa.Table, time: str, feature: str, computed: str) -> CheckResult:
    later = pc.sum(pc.greater(table[computed], table[time])).as_py() or 0
    return CheckResult(
        "expect_feature_of_the_past",
        feature,
        "block",
        later == 0,
        f"{later:,} of {table.num_rows:,} rows computed after their decision ({computed} > {time})",
        "none",
    )
