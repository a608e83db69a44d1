"""SQL to read a source for materialization: the newest row of each key, or all rows, in a time span."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feature_repo.offline.point_in_time import instant, quoted


def all_rows_sql(
    source: str, columns: Sequence[str], event_time: str, start: datetime | None, end: datetime | None
) -> str:
    """Return rows with ``start <= event_time <= end``; an absent bound does not apply."""
    selected = ", ".join(quoted(c) for c in dict.fromkeys(columns))
    conditions = [
        f"{quoted(event_time)} {sign} {instant(bound)}"
        for sign, bound in ((">=", start), ("<=", end))
        if bound is not None
    ]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {selected} FROM {source}{where}"


def newest_rows_sql(
    source: str,
    *,
    keys: Sequence[str],
    columns: Sequence[str],
    event_time: str,
    created: str | None,
    start: datetime,
    end: datetime,
) -> str:
    """Return the newest row of each key in the span; of equal event times, the one created last."""
    newest = [f"{quoted(event_time)} DESC"]
    if created is not None:
        newest.append(f"{quoted(created)} DESC NULLS LAST")
    rows = all_rows_sql(source, columns, event_time, start, end)
    partition = f"PARTITION BY {', '.join(quoted(k) for k in keys)} " if keys else ""
    return f"{rows} QUALIFY row_number() OVER ({partition}ORDER BY {', '.join(newest)}) = 1"
