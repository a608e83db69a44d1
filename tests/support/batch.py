"""Runs batch groups in a test, in memory on DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import ibis
import pyarrow as pa

from feature_repo.contract.validation import Kind, Record, to_arrow
from feature_repo.group import BatchParams, LakeTables, Part
from feature_repo.groups import batch_groups


@cache
def duckdb() -> ibis.BaseBackend:
    con = ibis.duckdb.connect(threads=2)
    con.raw_sql("SET TimeZone = 'UTC'")
    return con


def table_of(kind: Kind, records: Sequence[Record], params: BatchParams) -> ibis.Table:
    return ibis.memtable(to_arrow(kind, records, params.as_of))


def build_all(
    events: Sequence[Record],
    items: Sequence[Record],
    users: Sequence[Record],
    params: BatchParams,
    only: str | None = None,
    *,
    parts: int = 1,
) -> dict[str, pa.Table]:
    """Build every batch group, or `only` one and its dependencies, as of `params.as_of`; no look-back limit.

    Args:
        parts: number of parts for divisible groups.
    """
    before = [e for e in events if getattr(e, "event_time") < params.as_of]  # noqa: B009 - events only
    built: dict[str, pa.Table] = {}
    for name, group in batch_groups().items():
        if only not in (None, name) and name not in batch_groups()[str(only)].depends_on:
            continue
        assert group.batch is not None
        tables = LakeTables(
            events=table_of("event", before, params),
            items=table_of("item", items, params),
            users=table_of("user", users, params),
            groups={other: ibis.memtable(built[other]) for other in group.depends_on},
        )
        of = parts if group.divisible else 1
        built[name] = pa.concat_tables(
            duckdb().to_pyarrow(group.batch(replace(tables, part=Part(n, of)), params)) for n in range(of)
        )
    return built


def rows_of(table: pa.Table, key: str) -> Mapping[str, dict[str, Any]]:
    rows = {row.pop(key): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    return rows
