"""Checks the online store after a materialization: reads back a hash sample of the build and compares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from feature_repo.group import EVENT_TIMESTAMP, FeatureGroup
from feature_repo.online.rows import OnlineRow
from feature_repo.online.store import OnlineStore
from quality.checks.suites import Rule, Suite

if TYPE_CHECKING:
    from quality.checks.results import CheckReport

SAMPLE = 500
PRESENT, MISSING, OLD, NEWER = "present", "missing", "older", "newer"
EQUAL = "equal"
_TEXT = 40
_TOLERANCE = 1e-6
"""Relative tolerance for equal floats: float32 features lose digits in the store."""


def check_online(
    group: FeatureGroup,
    build: Path,
    store: OnlineStore,
    docs: Path | None = None,
    sample: int = SAMPLE,
    *,
    keep_page: timedelta | None = None,
) -> CheckReport:
    """Compare a sample of a build with the online store's rows.

    A row whose stored event time is newer (a later build) is excluded from the comparison of values; a
    missing or older row blocks.

    Args:
        sample: number of rows to read back; a build always gives the same keys (smallest hashes).
        keep_page: see `quality.checks.report.check`.

    Raises:
        LakeError: the build cannot be read.
        StoreError: the store cannot be read.
    """
    from quality.checks.report import check  # noqa: PLC0415

    built = sampled(group, build, sample)
    key = group.entity.join_key
    online = store.read([(group, row[key]) for row in built])
    table = comparison(group, built, online)
    return check(online_suite(group), table, docs, keep_page=keep_page)


def online_suite(group: FeatureGroup) -> Suite:
    """Return the rules of a comparison: every sampled row is online and every value is equal."""
    key = group.entity.join_key
    rules = [
        Rule("row_count_between", minimum=1, severity="warn"),
        Rule("not_null", (key,)),
        Rule("in_set", ("online_row",), values=(PRESENT, NEWER)),
        *(Rule("in_set", (name,), values=(EQUAL,)) for name in group.feature_names),
    ]
    names = [key, "online_row", *group.feature_names]
    return Suite(
        f"{group.view_name} online",
        pa.schema([(name, pa.string()) for name in names]),
        tuple(rules),
        title=f"{group.view_name} read back from the online store",
        asset=f"feast/{group.view_name}",
    )


def sampled(group: FeatureGroup, build: Path, sample: int) -> list[dict[str, Any]]:
    """Read the rows of a build whose keys have the smallest hashes."""
    import duckdb  # noqa: PLC0415

    from feature_repo.errors import LakeError  # noqa: PLC0415

    con = duckdb.connect()
    try:
        con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        name = group.entity.join_key
        # Keys first: sorting whole rows would keep every wide row in memory.
        build_file = "read_parquet($build, hive_partitioning=false)"
        query = (
            f'SELECT * FROM {build_file} SEMI JOIN (SELECT "{name}" FROM {build_file} '
            f'ORDER BY hash("{name}"), "{name}" LIMIT $sample) USING ("{name}") ORDER BY "{name}"'
        )
        rows: list[dict[str, Any]] = (
            con.sql(query, params={"build": str(build), "sample": sample}).to_arrow_table().to_pylist()
        )
    except duckdb.Error as error:
        msg = f"{build}: cannot be sampled ({error})"
        raise LakeError(msg) from error
    finally:
        con.close()
    return rows


def comparison(
    group: FeatureGroup, built: Sequence[Mapping[str, Any]], online: Sequence[OnlineRow | None]
) -> pa.Table:
    """Build one row per sampled key: whether it is online, and ``equal`` or the difference per feature."""
    key = group.entity.join_key
    rows = []
    for offline, row in zip(built, online, strict=True):
        state = _state(offline[EVENT_TIMESTAMP], row)
        compared: dict[str, str | None] = {key: offline[key], "online_row": state}
        for name in group.feature_names:
            same = row is not None and state == PRESENT
            compared[name] = difference(row.values.get(name), offline[name]) if same and row else None
        rows.append(compared)
    return pa.Table.from_pylist(rows, schema=online_suite(group).schema)


def _state(built: datetime, row: OnlineRow | None) -> str:
    if row is None:
        return MISSING
    # The store keeps whole seconds, as Feast does.
    stored, wanted = row.event_time.replace(microsecond=0), built.replace(microsecond=0)
    if stored == wanted:
        return PRESENT
    return NEWER if stored > wanted else OLD


def difference(online: Any, offline: Any) -> str:
    """Return ``equal``, or both values in words."""
    return EQUAL if same_value(online, offline) else f"online {_short(online)}, offline {_short(offline)}"


def same_value(one: Any, other: Any, tolerance: float = _TOLERANCE) -> bool:
    """Compare, ignoring the last digits of floats and fractions of seconds; null equals an empty list."""
    if isinstance(one, list | tuple) or isinstance(other, list | tuple):
        first, second = list(one or ()), list(other or ())
        return len(first) == len(second) and all(
            same_value(a, b, tolerance) for a, b in zip(first, second, strict=True)
        )
    if one is None or other is None:
        return one is other
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.replace(microsecond=0) == other.replace(microsecond=0)
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-12)
    return bool(one == other)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"
