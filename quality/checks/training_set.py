"""Checks of a training set: rows and labels exist, features are from the past, none leaks the label.

A feature computed from the label separates the classes almost perfectly; so does a feature that is null for
one class only. Legitimate features do neither, so an area under the curve near 0 or 1 blocks.

The layout: one row per shown item, ``label_*`` and ``label_time``, ``split``, and per group ``g`` the columns
``g__source``, ``g__event_time`` and ``g__<feature>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.arrays import Bools, Floats
from feature_repo.errors import LakeError
from quality.checks.report import check
from quality.checks.results import CheckReport, CheckResult
from quality.checks.suites import ANY_VALUE, Rule, Suite

LEAK_AUC = 0.98
"""Area under the curve (of values or of nullness) from which a single feature counts as a leak."""
LEAST_CLASS = 20
"""With fewer rows of a class, separation means nothing."""
SAMPLE_ROWS = 200_000
_FEW_TEXTS = 20
_WHOLE = 2**64


@dataclass(frozen=True)
class Layout:
    """The role of each column."""

    label: str = "label_click"
    time: str = "decision_time"
    label_time: str = "label_time"
    split: str = "split"
    request: str = "request_id"
    item: str = "item_id"

    def features(self, names: Sequence[str]) -> list[str]:
        """List the columns that a model may read."""
        other = {self.time, self.split, self.request, self.item, "user_id", "session_id", "position"}
        return [
            name
            for name in names
            if name not in other
            and not name.startswith("label_")
            and not name.endswith(("__source", "__event_time"))
        ]


def training_suite(schema: pa.Schema, layout: Layout) -> Suite:
    """Derive the rules for these columns: keys, time, split and labels present, floats finite."""
    labels = [name for name in schema.names if name.startswith("label_") and name != layout.label_time]
    needed = (layout.request, layout.item, layout.time, layout.split, layout.label, *labels)
    rules = [Rule("columns"), Rule("row_count_between", minimum=1)]
    rules += [Rule("not_null", (name,)) for name in dict.fromkeys(needed)]
    rules.append(Rule("in_set", (layout.split,), values=("train", "validation", "test")))
    for name in layout.features(schema.names):
        dtype = schema.field(name).type
        rules.append(Rule("not_null", (name,), mostly=ANY_VALUE, severity="warn"))
        if pa.types.is_floating(dtype.value_type if pa.types.is_list(dtype) else dtype):
            rules.append(Rule("finite", (name,)))
    wanted = schema
    for name in needed:
        if name not in schema.names:
            wanted = wanted.append(pa.field(name, pa.string()))
    suite = Suite("training_set", wanted, (), title="Training set", asset="training/training_set")
    return suite.with_overrides(rules)


def check_training_set(path: Path, docs: Path | None = None, *, layout: Layout | None = None) -> CheckReport:
    """Check a training set in a Parquet file, in bounded memory.

    Args:
        docs: Data Docs folder.

    Raises:
        LakeError: the file cannot be read.
    """
    layout = layout or Layout()
    schema = _schema(path)
    report = check(training_suite(schema, layout), [str(path)], docs)
    if not {layout.label, layout.time, layout.request, layout.split} <= set(schema.names):
        return report  # missing columns are already reported
    table = _query(path, *_sampled(schema, layout, report.rows))
    extra = [_both_classes(table, layout.label), *_times(path, schema, layout)]
    extra += [_splits(path, layout), _apart(path, schema, layout)]
    extra += leaks(table, layout.label, layout.features(table.column_names))
    return replace(report, results=(*report.results, *extra))


def leaks(table: pa.Table, label: str, features: Sequence[str], limit: float = LEAK_AUC) -> list[CheckResult]:
    """Measure how well each feature alone predicts the label, by its values and by its nullness."""
    labels = _numbers(table[label]) > 0
    if min(labels.sum(), (~labels).sum()) < LEAST_CLASS:
        return []
    found = []
    for name in features:
        areas = {
            "being null": area_under_curve(np.asarray(pc.is_null(table[name]), dtype=np.float64), labels)
        }
        values = _scores(table[name], labels)
        known = None if values is None else np.isfinite(values)
        if (
            values is not None
            and known is not None
            and min(labels[known].sum(), (~labels[known]).sum()) >= LEAST_CLASS
        ):
            areas["its value"] = area_under_curve(values[known], labels[known])
        what, area = max(areas.items(), key=lambda item: abs(item[1] - 0.5))
        passed = abs(area - 0.5) < limit - 0.5
        observed = f"{what} predicts the label with an area under the curve of {area:.4f}"
        wanted = f"between {1 - limit:.2f} and {limit:.2f}; remove a feature that is computed from the label"
        found.append(CheckResult("expect_feature_not_to_leak", name, "block", passed, observed, wanted))
    return found


def area_under_curve(scores: Floats, labels: Bools) -> float:
    """Return the chance that a positive outscores a negative, ties half: Mann–Whitney's U over n · m."""
    from scipy.stats import rankdata  # noqa: PLC0415

    positives, negatives = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _scores(column: Any, labels: Bools) -> Floats | None:
    """Score a column: numbers as is, lists by length, few distinct texts by the label's mean; else `None`."""
    dtype = column.type
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_boolean(dtype):
        return _numbers(column)
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        return _numbers(pc.list_value_length(column))
    if pa.types.is_timestamp(dtype):
        return np.where(pc.is_null(column), np.nan, _numbers(column.cast(pa.int64())))
    if pa.types.is_string(dtype) and len(pc.unique(column)) <= _FEW_TEXTS:
        codes = np.asarray(column.combine_chunks().dictionary_encode().indices.fill_null(-1))
        means = {code: float(labels[codes == code].mean()) for code in np.unique(codes) if code >= 0}
        return np.array([means.get(code, np.nan) for code in codes], dtype=np.float64)
    return None


def _numbers(column: Any) -> Floats:
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _both_classes(table: pa.Table, label: str) -> CheckResult:
    positives = int(np.nansum(_numbers(table[label]) > 0))
    observed = f"{positives:,} of {table.num_rows:,} sampled rows positive"
    passed = 0 < positives < table.num_rows
    return CheckResult("expect_both_classes", label, "warn", passed, observed, "rows of both classes")


def _times(path: Path, schema: pa.Schema, layout: Layout) -> list[CheckResult]:
    """Check that features precede their decision and labels follow it."""
    events = [name for name in schema.names if name.endswith("__event_time")]
    conditions = {name: f'"{name}" > "{layout.time}"' for name in events}
    if layout.label_time in schema.names:
        conditions[layout.label_time] = f'"{layout.label_time}" < "{layout.time}"'
    if not conditions:
        return []
    counted = ", ".join(f"count(*) FILTER ({c}) AS c{n}" for n, c in enumerate(conditions.values()))
    row = _query(path, f"SELECT count(*) AS n, {counted} FROM read_parquet(?)").to_pylist()[0]
    found = []
    for n, name in enumerate(conditions):
        label = name == layout.label_time
        what, side = (
            ("expect_label_after_decision", "before") if label else ("expect_feature_of_the_past", "after")
        )
        observed = f"{row[f'c{n}']:,} of {row['n']:,} rows {side} their {layout.time}"
        found.append(CheckResult(what, name, "block", row[f"c{n}"] == 0, observed, "none"))
    return found


def _splits(path: Path, layout: Layout) -> CheckResult:
    query = (
        f'SELECT count(*) AS n FROM (SELECT "{layout.request}" FROM read_parquet(?) GROUP BY 1 '
        f'HAVING min("{layout.split}") <> max("{layout.split}"))'
    )
    torn = _query(path, query).to_pylist()[0]["n"]
    observed = f"{torn:,} requests are in more than one split"
    return CheckResult("expect_request_in_one_split", layout.split, "block", torn == 0, observed, "none")


def _apart(path: Path, schema: pa.Schema, layout: Layout) -> CheckResult:
    """Check that no decision or label of a split falls after the start of the next split."""
    times = ", ".join(f'"{name}"' for name in (layout.time, layout.label_time) if name in schema.names)
    query = (
        f'WITH r AS (SELECT "{layout.split}" AS s, "{layout.time}" AS t, greatest({times}) AS last '
        "FROM read_parquet(?)), starts AS (SELECT min(t) FILTER (s <> 'train') AS after_train, "
        "min(t) FILTER (s = 'test') AS test FROM r) SELECT count(*) AS n FROM r, starts "
        "WHERE (s = 'train' AND last > after_train) OR (s = 'validation' AND last > test)"
    )
    over = _query(path, query).to_pylist()[0]["n"]
    observed = f"{over:,} rows decided or labelled after the next split began"
    return CheckResult("expect_splits_apart_in_time", layout.time, "block", over == 0, observed, "none")


def _sampled(schema: pa.Schema, layout: Layout, rows: int) -> tuple[str, list[Any]]:
    """Build a query for whole requests by hash: about `SAMPLE_ROWS` rows of the label and the features."""
    columns = ", ".join(f'"{name}"' for name in (layout.label, *layout.features(schema.names)))
    bound = _WHOLE - 1 if rows <= SAMPLE_ROWS else int(_WHOLE / rows * SAMPLE_ROWS)
    return f'SELECT {columns} FROM read_parquet(?) WHERE hash("{layout.request}") <= ?::UBIGINT', [bound]


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        msg = f"{path}: not a readable training set ({' '.join(str(error).split())}); rebuild it"
        raise LakeError(msg) from error


def _query(path: Path, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
    import duckdb  # noqa: PLC0415

    con = duckdb.connect()
    try:
        con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET memory_limit = '1GB'")
        query = sql.replace("read_parquet(?)", "read_parquet(?, hive_partitioning=false)")
        return con.sql(query, params=[str(path), *parameters]).to_arrow_table()
    except duckdb.Error as error:
        msg = f"{path}: cannot be checked ({str(error).splitlines()[0]})"
        raise LakeError(msg) from error
    finally:
        con.close()
