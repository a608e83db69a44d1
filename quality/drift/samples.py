"""Samples of feature values from builds: the same keys in every build, chosen by hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from feature_repo.arrays import Floats
from feature_repo.errors import LakeError
from feature_repo.group import EVENT_TIMESTAMP, DType, Feature, FeatureGroup
from quality.checks.build_profile import LISTS, NUMBER_LISTS, NUMBERS

_WHOLE = 2**64


@dataclass(frozen=True)
class Sample:
    """Sampled values of one feature.

    Attributes:
        rows: rows with a value.
        values: an array of finite numbers, or labels; of lists, every element.
    """

    rows: int
    values: Floats | Sequence[Any]


class Sampler:
    """Reads samples of a group's features; holds one DuckDB connection."""

    def __init__(self, group: FeatureGroup) -> None:
        import duckdb  # noqa: PLC0415

        self._key = group.entity.join_key
        self._error = duckdb.Error
        self._con = duckdb.connect()
        self._con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._con.close()

    def samples(
        self, features: Sequence[Feature], paths: Sequence[Path], rows: int, limit: int
    ) -> dict[str, Sample]:
        """Sample about `limit` of the builds' `rows` rows: each feature's values, without nulls.

        NaN and infinities are dropped (the suites check them). Times become ages, in seconds before the row's
        event timestamp, because ages stay comparable between days.

        Raises:
            LakeError: a build cannot be read.
        """
        if not features:
            return {}
        bound = _WHOLE - 1 if rows <= limit else int(_WHOLE / rows * limit)
        query = (
            f"SELECT {', '.join(_value(f) for f in features)} "
            "FROM read_parquet($paths, hive_partitioning=false) "
            f'WHERE hash("{self._key}") <= $bound::UBIGINT'
        )
        try:
            table = self._con.sql(
                query, params={"paths": [str(p) for p in paths], "bound": bound}
            ).to_arrow_table()
        except self._error as error:
            msg = f"{paths[0]}: cannot be sampled ({str(error).splitlines()[0]})"
            raise LakeError(msg) from error
        return {f.name: _sample(f, table[f.name].drop_null()) for f in features}


def _sample(feature: Feature, column: Any) -> Sample:
    count = len(column)
    if feature.dtype in LISTS:
        column = column.combine_chunks().flatten()
    if feature.dtype in (*NUMBERS, *NUMBER_LISTS, DType.TIMESTAMP):
        values = column.to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        # Arrays without a number have no distribution, whatever the number of rows.
        return Sample(min(count, len(values)), values)
    labels = column.to_pylist()
    return Sample(min(count, len(labels)), labels)


def _value(feature: Feature) -> str:
    if feature.dtype is DType.TIMESTAMP:
        return f'epoch({EVENT_TIMESTAMP}) - epoch("{feature.name}") AS "{feature.name}"'
    return f'"{feature.name}"'
