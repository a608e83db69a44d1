"""Per-column profile of a build: the history from which bounds are proposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_repo.errors import LakeError
from feature_repo.group import DType, Feature, FeatureGroup

NUMBERS = (DType.INT64, DType.FLOAT64)
NUMBER_LISTS = (DType.INT64S, DType.FLOAT64S, DType.FLOAT32S)
LISTS = (DType.STRINGS, *NUMBER_LISTS)


@dataclass(frozen=True)
class ColumnProfile:
    """Figures of one column; minimum and maximum cover finite numbers, in lists those of the elements."""

    null_share: float
    minimum: float | None = None
    maximum: float | None = None
    distinct: int | None = None


@dataclass(frozen=True)
class BuildProfile:
    """Figures of one build. `columns` holds every feature by name."""

    rows: int
    columns: Mapping[str, ColumnProfile]


def profile(group: FeatureGroup, path: Path) -> BuildProfile:
    """Profile a build in one DuckDB query.

    Raises:
        LakeError: the build cannot be read or lacks a feature; names it.
    """
    import duckdb  # noqa: PLC0415

    selected = ["count(*)"]
    for feature in group.features:
        selected += _measures(feature)
    con = duckdb.connect()
    try:
        con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        (row,) = con.execute(
            f"SELECT {', '.join(selected)} FROM read_parquet(?, hive_partitioning=false)", [str(path)]
        ).fetchall()
    except duckdb.Error as error:
        msg = f"{path}: cannot be profiled as {group.name} ({str(error).splitlines()[0]})"
        raise LakeError(msg) from error
    finally:
        con.close()
    rows = int(row[0])
    cells = iter(row[1:])
    columns = {f.name: _column(rows, [next(cells) for _ in range(4)]) for f in group.features}
    return BuildProfile(rows, columns)


def _measures(feature: Feature) -> list[str]:
    name = f'"{feature.name}"'
    nulls = f"count(*) FILTER ({name} IS NULL)"
    if feature.dtype in NUMBERS:
        finite = f"FILTER (isfinite({name}))" if feature.dtype is DType.FLOAT64 else ""
        return [nulls, f"min({name}) {finite}", f"max({name}) {finite}", f"approx_count_distinct({name})"]
    if feature.dtype in NUMBER_LISTS:
        finite = f"list_filter({name}, lambda x: isfinite(x::DOUBLE))"
        return [nulls, f"min(list_min({finite}))", f"max(list_max({finite}))", "NULL"]
    if feature.dtype in LISTS:
        return [nulls, "NULL", "NULL", "NULL"]
    return [nulls, "NULL", "NULL", f"approx_count_distinct({name})"]


def _column(rows: int, cells: list[Any]) -> ColumnProfile:
    nulls, low, high, distinct = cells
    return ColumnProfile(
        null_share=nulls / rows if rows else 0.0,
        minimum=None if low is None else float(low),
        maximum=None if high is None else float(high),
        distinct=None if distinct is None else int(distinct),
    )
