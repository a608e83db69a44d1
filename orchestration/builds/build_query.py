"""The rows of one build: a group's expression on DuckDB, in parts where the whole would not fit in memory."""

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
"""Rows of a row group: what a build holds of its result, and a materialization writes between two marks."""
EVENTS_PER_GB, MOST_PARTS = 2_000_000, 1024
"""Of a divisible group: a gigabyte of DuckDB's memory holds the lists of so many with room to spare."""
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
    """A build that is being made.

    Attributes:
        needed: files of the builds that the group reads, by group.
        created: what the rows are stamped with.
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
        """Into how many parts to divide at first: a power of two, 1 where the group is not divisible.

        Raises:
            LakeError: a file of events is damaged; names it.
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
        """Write all rows to a Parquet file, part by part, on a database of their own; returns how many.

        DuckDB writes the file itself: handed out as Arrow the last step would run on one core.

        Args:
            facts: metadata of the file.
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
        """SQL for the rows of a part in the group's schema, the two timestamps added."""
        assert self.group.batch is not None
        expression = self.group.batch(tables, params)
        _same_columns(self.group, expression.schema())
        con._run_pre_execute_hooks(expression)
        key = self.group.entity.join_key
        columns = [f'CAST("{key}" AS VARCHAR) AS "{key}"']
        # Cast here: what Ibis takes for a BIGINT, the sum of one, is a HUGEINT to DuckDB.
        columns += [f'CAST("{f.name}" AS {_SQL[f.dtype]}) AS "{f.name}"' for f in self.group.features]
        columns += [
            f"{instant(self.as_of)} AS {EVENT_TIMESTAMP}",
            f"{instant(self.created)} AS {CREATED_TIMESTAMP}",
        ]
        return f"SELECT {', '.join(columns)} FROM ({con.compile(expression)})"

    def _copy(self, con: ibis.BaseBackend, query: str, path: Path, facts: Mapping[str, str]) -> int:
        """Write the answer of a query to a file; returns its rows.

        Raises:
            BuildError: rows without a key.
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
    """Bytes of a memory limit; of one that only DuckDB can tell (a share of the machine's) the default's."""
    try:
        return DEFAULT_BYTES if "%" in memory else _SIZE.validate_python(memory)
    except ValidationError:
        return DEFAULT_BYTES


def _same_columns(group: FeatureGroup, found: sch.Schema) -> None:
    """The expression yields the declared columns, in types that fit the declared ones without loss."""
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
    """What all parts share, computed once: small tables in the database, those with a key split on the disk.

    A part then reads its own rows and no other's; in one table each part would read all of it.
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
        if not files:  # not a row
            return self._table(name, split)
        return self.con.read_parquet(files, hive_partitioning=True)
