"""The rows of one build: a group's expression on DuckDB, in parts where the whole would not fit in memory."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.errors import BuildError
from feature_repo.group import CREATED_TIMESTAMP, EVENT_TIMESTAMP, BatchParams, FeatureGroup, Part
from feature_repo.home import Home
from feature_repo.lake import Lake, days_before, duckdb_backend, read_tables, unreadable
from feature_repo.settings import Settings

if TYPE_CHECKING:
    import ibis
    import ibis.expr.types as ir

ROWS_PER_BATCH = 50_000
EVENTS_PER_PART, MOST_PARTS = 4_000_000, 1024
"""Of a divisible group. DuckDB's default memory holds the lists of so many events with room to spare."""


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
        parts = 1
        while parts < MOST_PARTS and parts * EVENTS_PER_PART < events:
            parts *= 2
        return parts

    def rows(self, parts: int) -> Generator[pa.RecordBatch, None, None]:
        """All rows, part by part, on a database of their own."""
        assert self.group.batch is not None
        spill = self.home.features / ".spill" / uuid.uuid4().hex
        params = BatchParams.of(self.settings, self.as_of)
        try:
            with duckdb_backend(self.settings.duckdb_memory, self.settings.duckdb_threads, spill) as con:
                needed = self.needed.items()
                groups = {n: con.read_parquet([str(p)], hive_partitioning=False) for n, p in needed}
                tables = read_tables(con, Lake(self.home.lake), self.as_of, self._history)
                tables = replace(tables, groups=groups, keep=_kept(con))
                for number in range(parts):
                    part = replace(tables, part=Part(number, parts))
                    yield from self._batches(con, self.group.batch(part, params))
        finally:
            shutil.rmtree(spill, ignore_errors=True)

    def _batches(self, con: ibis.BaseBackend, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """Rows of the expression in the group's schema, the two timestamps added."""
        group = self.group
        stamps = {EVENT_TIMESTAMP: self.as_of, CREATED_TIMESTAMP: self.created}
        wanted = [name for name in group.arrow_schema.names if name not in stamps]
        _same_columns(group, expression.columns, wanted)
        con._run_pre_execute_hooks(expression)
        # Ibis' own `to_pyarrow_batches` calls a method that DuckDB 2 no longer has.
        for batch in con.con.sql(con.compile(expression)).to_arrow_reader(ROWS_PER_BATCH):
            _no_null_keys(group, self.as_of, batch)
            columns: list[Any] = [
                pa.repeat(pa.scalar(stamps[f.name], f.type), batch.num_rows)
                if f.name in stamps
                else batch.column(batch.schema.get_field_index(f.name)).cast(f.type)
                for f in group.arrow_schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=group.arrow_schema)


def _no_null_keys(group: FeatureGroup, as_of: datetime, batch: pa.RecordBatch) -> None:
    key = group.entity.join_key
    nulls = batch.column(batch.schema.get_field_index(key)).null_count
    if nulls:
        rows = "1 row has" if nulls == 1 else f"{nulls} rows have"
        msg = f"{group.name} as of {as_of:%Y-%m-%dT%H:%M:%SZ}: {rows} no {key}; drop them in its expression"
        raise BuildError(msg)


def _same_columns(group: FeatureGroup, found: tuple[str, ...], wanted: list[str]) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"adds {', '.join(extra)}"] * bool(extra)
        msg = f"{group.name}: its expression {' and '.join(parts)}; it must yield exactly {', '.join(wanted)}"
        raise BuildError(msg)


def _kept(con: ibis.BaseBackend) -> Callable[[str, ir.Table], ir.Table]:
    """What all parts share, as tables computed once; they spill like everything else."""
    found: dict[str, ir.Table] = {}

    def keep(name: str, table: ir.Table) -> ir.Table:
        if name not in found:
            found[name] = con.create_table(name, table, temp=True)
        return found[name]

    return keep
