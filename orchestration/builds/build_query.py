"""The query of one build: a group's expression on DuckDB, split into parts when it does not fit in memory."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ByteSize, TypeAdapter, ValidationError

from feature_repo.errors import BuildError
from feature_repo.group import (
    CREATED_TIMESTAMP,
    EVENT_TIMESTAMP,
    PART,
    BatchParams,
    DType,
    FeatureGroup,
    Part,
)
from feature_repo.home import Home
from feature_repo.lake.lake import Lake, days_before, duckdb_backend, read_tables, unreadable
from feature_repo.offline.point_in_time import instant, text
from feature_repo.settings import Settings

if TYPE_CHECKING:
    import ibis
    import ibis.expr.schema as sch
    import ibis.expr.types as ir

    from feature_repo.group import LakeTables

ROWS_PER_PIECE = 8192
"""Rows per row group: the most a build keeps of its result in memory, and the checkpoint interval online."""
EVENTS_PER_GB, MOST_PARTS = 2_000_000, 1024
"""For a divisible group: one gigabyte of DuckDB's memory easily holds the lists of this many events."""
DEFAULT_BYTES = 2_000_000_000
_SIZE = TypeAdapter(ByteSize)


_SQL = {
    DType.STRING: "VARCHAR",
    DType.INT64: "BIGINT",
    DType.FLOAT64: "DOUBLE",
    DType.BOOL: "BOOLEAN",
    DType.TIMESTAMP: "TIMESTAMPTZ",
    DType.STRINGS: "VARCHAR[]",
    DType.INT64S: "BIGINT[]",
    DType.FLOAT64S: "DOUBLE[]",
    DType.FLOAT32S: "FLOAT[]",
}


@dataclass(frozen=True)
class Making:
    """A build in progress.

    Attributes:
        needed: builds that the group reads, by group.
        created: timestamp written to every row.
    """

    group: FeatureGroup
    settings: Settings
    home: Home
    needed: Mapping[str, Path]
    as_of: datetime
    created: datetime

    @property
    def _history(self) -> timedelta:
        return timedelta(days=self.settings.history_days)

    def first_parts(self) -> int:
        """Choose the initial number of parts: a power of two, or 1 if the group is not divisible.

        Raises:
            LakeError: an event file is damaged; names the file.
        """
        if not self.group.divisible:
            return 1
        files = Lake(self.home.lake).files("event", *days_before(self.as_of, self._history))
        if bad := unreadable(files):
            raise bad
        events = sum(pq.read_metadata(name).num_rows for name in files)
        together = EVENTS_PER_GB * _size(self.settings.duckdb_memory) / 1e9
        parts = 1
        while parts < MOST_PARTS and parts * together < events:
            parts *= 2
        return parts

    def write(self, parts: int, path: Path, facts: Mapping[str, str]) -> int:
        """Write all rows to a Parquet file, part by part, on a separate database; return their number.

        DuckDB writes the file itself, because exporting the last step as Arrow would use only one core.

        Args:
            facts: metadata for the file.
        """
        spill = self.home.features / ".spill" / uuid.uuid4().hex
        params = BatchParams.of(self.settings, self.as_of)
        try:
            with duckdb_backend(self.settings.duckdb_memory, self.settings.duckdb_threads, spill) as con:
                con.raw_sql("SET preserve_insertion_order = false")
                tables = self._tables(con)
                if parts == 1:
                    return self._copy(con, self._query(con, tables, params), path, facts)
                tables = replace(tables, keep=_Kept(con, parts, spill))
                for number in range(parts):
                    part = replace(tables, part=Part(number, parts))
                    self._copy(con, self._query(con, part, params), spill / f"{number}.part", {})
                return self._copy(con, f"FROM read_parquet({text(f'{spill}/*.part')})", path, facts)
        finally:
            shutil.rmtree(spill, ignore_errors=True)

    def _tables(self, con: ibis.BaseBackend) -> LakeTables:
        groups = {n: con.read_parquet([str(p)], hive_partitioning=False) for n, p in self.needed.items()}
        return replace(read_tables(con, Lake(self.home.lake), self.as_of, self._history), groups=groups)

    def _query(self, con: ibis.BaseBackend, tables: LakeTables, params: BatchParams) -> str:
        """Return the SQL for a part's rows in the group's schema, with the two timestamps."""
        assert self.group.batch is not None
        expression = self.group.batch(tables, params)
        _same_columns(self.group, expression.schema())
        con._run_pre_execute_hooks(expression)
        key = self.group.entity.join_key
        columns = [f'CAST("{key}" AS VARCHAR) AS "{key}"']
        # Cast here: Ibis types the sum of a BIGINT as BIGINT, but DuckDB returns a HUGEINT.
        columns += [f'CAST("{f.name}" AS {_SQL[f.dtype]}) AS "{f.name}"' for f in self.group.features]
        columns += [
            f"{instant(self.as_of)} AS {EVENT_TIMESTAMP}",
            f"{instant(self.created)} AS {CREATED_TIMESTAMP}",
        ]
        return f"SELECT {', '.join(columns)} FROM ({con.compile(expression)})"

    def _copy(self, con: ibis.BaseBackend, query: str, path: Path, facts: Mapping[str, str]) -> int:
        """Write a query's result to a file; return the number of rows.

        Raises:
            BuildError: some rows have no key.
        """
        written = ", ".join(f"{text(name)}: {text(value)}" for name, value in facts.items())
        options = (
            f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS_PER_PIECE}, KV_METADATA {{{written}}}, "
            "USE_TMP_FILE false, RETURN_STATS"
        )
        copied = con.raw_sql(f"COPY ({query}) TO {text(str(path))} ({options})")
        names = [column[0] for column in copied.description]
        found = dict(zip(names, copied.fetchone(), strict=True))
        _no_null_keys(self.group, self.as_of, found["column_statistics"])
        return int(found["count"])


def _no_null_keys(group: FeatureGroup, as_of: datetime, statistics: Mapping[str, Mapping[str, str]]) -> None:
    key = group.entity.join_key
    if nulls := int(statistics[f'"{key}"']["null_count"]):
        rows = "1 row has" if nulls == 1 else f"{nulls} rows have"
        msg = f"{group.name} as of {as_of:%Y-%m-%dT%H:%M:%SZ}: {rows} no {key}; drop them in its expression"
        raise BuildError(msg)


def _size(memory: str) -> int:
    """Return a memory limit in bytes; the default if only DuckDB can resolve it (a share of the RAM)."""
    try:
        return DEFAULT_BYTES if "%" in memory else _SIZE.validate_python(memory)
    except ValidationError:
        return DEFAULT_BYTES


def _same_columns(group: FeatureGroup, found: sch.Schema) -> None:
    """Check that the expression yields the declared columns, in types that cast losslessly."""
    wanted = {f.name: f.dtype.arrow for f in group.features} | {group.entity.join_key: DType.STRING.arrow}
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"adds {', '.join(extra)}"] * bool(extra)
        names = ", ".join(n for n in group.arrow_schema.names if n in wanted)
        msg = f"{group.name}: its expression {' and '.join(parts)}; it must yield exactly {names}"
        raise BuildError(msg)
    import ibis  # noqa: PLC0415 - half a second

    declared = ibis.Schema.from_pyarrow(pa.schema(wanted.items()))
    if unfit := [f"{n} as {t}, not {declared[n]}" for n, t in found.items() if not t.castable(declared[n])]:
        msg = f"{group.name}: its expression yields {', '.join(unfit)}; cast it there, or declare that type"
        raise BuildError(msg)


@dataclass(frozen=True)
class _Kept:
    """Intermediate tables shared by all parts, computed once: small ones in memory, keyed ones on disk.

    Each part then reads only its own rows; from one table, each part would read everything.
    """

    con: ibis.BaseBackend
    parts: int
    folder: Path
    found: dict[str, ir.Table] = field(default_factory=dict)

    def __call__(self, name: str, table: ir.Table, key: str | None = None) -> ir.Table:
        if name not in self.found:
            self.found[name] = self._split(name, table, key) if key else self._table(name, table)
        return self.found[name]

    def _table(self, name: str, table: ir.Table) -> ir.Table:
        return self.con.create_table(name, table, temp=True)

    def _split(self, name: str, table: ir.Table, key: str) -> ir.Table:
        split = table.mutate(**{PART: table[key].hash() & (self.parts - 1)})
        self.con._run_pre_execute_hooks(split)
        self.con.raw_sql(
            f"COPY ({self.con.compile(split)}) TO {text(str(self.folder / name))} "
            f"(FORMAT parquet, COMPRESSION lz4_raw, PARTITION_BY ({PART}))"
        )
        files = sorted(map(str, (self.folder / name).glob("*/*.parquet")))
        if not files:  # no rows
            return self._table(name, split)
        return self.con.read_parquet(files, hive_partitioning=True)
