"""Loads entity rows into DuckDB, from pandas, Arrow or SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df

from feature_repo.errors import LakeError
from feature_repo.offline.point_in_time import quoted

ENTITY = "entity_rows"


@dataclass(frozen=True)
class EntityFrame:
    """Entity rows in DuckDB, as the table or view `ENTITY`.

    Attributes:
        types: types of the columns.
        time_column: the column with each row's point in time.
        bounds: its smallest and largest value; `None` without rows.
    """

    columns: tuple[str, ...]
    types: Mapping[str, pa.DataType]
    time_column: str
    bounds: tuple[datetime, datetime] | None


def register(connection: duckdb.DuckDBPyConnection, rows: Any) -> EntityFrame:
    """Register entity rows with a connection as `ENTITY`.

    Args:
        rows: a pandas frame, an Arrow table or reader, or a SQL query for DuckDB. Times without a zone are
            UTC; text times are parsed as ISO 8601.

    Raises:
        LakeError: the rows are none of these, or the query fails.
    """
    schema = _stand_in(connection, rows)
    sample = schema.empty_table().to_pandas()
    time_column = infer_event_timestamp_from_entity_df(dict(zip(sample.columns, sample.dtypes, strict=True)))
    if not pa.types.is_timestamp(schema.field(time_column).type):
        name = quoted(time_column)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {ENTITY}_read AS "
            f"SELECT * REPLACE (CAST({name} AS TIMESTAMPTZ) AS {name}) FROM {ENTITY}"
        )
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {ENTITY} AS SELECT * FROM {ENTITY}_read")
    time = f"CAST({quoted(time_column)} AS TIMESTAMPTZ)"
    least, greatest = connection.execute(f"SELECT min({time}), max({time}) FROM {ENTITY}").fetchall()[0]
    bounds = None if least is None else (least.astimezone(UTC), greatest.astimezone(UTC))
    types = dict(zip(schema.names, schema.types, strict=True))
    return EntityFrame(tuple(schema.names), types, time_column, bounds)


def is_text(dtype: pa.DataType) -> bool:
    """Return whether a column holds text."""
    dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return bool(
        pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)
    )


def is_whole(dtype: pa.DataType) -> bool:
    """Return whether a column holds whole numbers, or only nulls."""
    dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return bool(
        pa.types.is_integer(dtype)
        or pa.types.is_null(dtype)
        or (pa.types.is_decimal(dtype) and dtype.scale == 0)
    )


def _stand_in(connection: duckdb.DuckDBPyConnection, rows: Any) -> pa.Schema:
    if isinstance(rows, pa.RecordBatchReader):
        rows = rows.read_all()
    if isinstance(rows, pd.DataFrame):
        try:
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            msg = f"entity rows: {'; '.join(map(str, error.args))}; give each column values of one type"
            raise LakeError(msg) from error
    if isinstance(rows, pa.Table):
        connection.register(ENTITY, rows)
        return rows.schema
    if isinstance(rows, str):
        try:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {ENTITY} AS {rows}")
        except duckdb.Error as error:
            msg = f"entity rows by SQL: {error}; DuckDB must answer it, e.g. SELECT * FROM 'x.parquet'"
            raise LakeError(msg) from error
        return connection.sql(f"SELECT * FROM {ENTITY} LIMIT 0").to_arrow_table().schema
    msg = (
        f"entity rows: a {type(rows).__name__}; give a pandas frame, an Arrow table or a SQL query "
        "with the join keys and an event_timestamp column"
    )
    raise LakeError(msg)
