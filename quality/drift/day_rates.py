"""The rates of one day, measured with DuckDB on the lake's files in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from feature_repo.contract.normalization import normalized
from feature_repo.errors import LakeError
from feature_repo.lake.lake import unreadable
from quality.checks.measure import MEMORY
from quality.drift.rates import DayRates, Sums

TOP = 3
"""Number of top categories in a profile that count as liked."""
FAMILIAR = "familiar_per_engagement"

_VISITS = ("impression", "search")
_TYPES = "SELECT DISTINCT event_type FROM events ORDER BY 1"
_ENGAGED = """
CREATE TEMP TABLE engaged AS
SELECT e.session_id, i.category, p.liked, list_contains(p.liked, i.category) AS familiar
FROM events AS e JOIN items AS i USING (item_id) LEFT JOIN profiles AS p USING (user_id)
WHERE list_contains($engaging, e.event_type) AND i.category IS NOT NULL
"""
_FAMILIAR = """
SELECT sum(x), sum(y), sum(x * x), sum(x * y), sum(y * y)
FROM (SELECT count(*)::DOUBLE AS x, count(*) FILTER (familiar)::DOUBLE AS y
      FROM engaged WHERE len(liked) > 0 GROUP BY session_id)
"""
_MIX = """
SELECT category, round(sum(n / whole), 6) FROM (  -- threads add in any order
    SELECT category, count(*) AS n, sum(count(*)) OVER (PARTITION BY session_id) AS whole
    FROM engaged GROUP BY session_id, category
) GROUP BY category ORDER BY category
"""


def day_rates(
    day: date,
    files: Sequence[str],
    items: Sequence[str],
    profiles: Path | None,
    engaging: Collection[str],
    *,
    memory: str = MEMORY,
) -> DayRates:
    """Measure a day of the lake.

    ``sessions`` is a count. Impressions and searches are counted as ``<type>_per_session``, clicks as
    ``click_per_impression`` and all other types as ``<type>_per_click`` (``_per_session`` if nothing is
    clicked). ``familiar_per_engagement`` is the share of engagements with one of the user's three top
    categories, by the profile at the start of the day.

    Args:
        files: events of the day.
        items: item records; the newest per item counts.
        profiles: build of the user profiles as of the start of the day; without it nothing is familiar.
        engaging: event types that express interest.
        memory: DuckDB's limit; beyond it, DuckDB spills to disk.

    Raises:
        LakeError: a file cannot be read; names it.
    """
    import duckdb  # noqa: PLC0415

    paths = [*files, *items, *([] if profiles is None else [str(profiles)])]
    with tempfile.TemporaryDirectory(prefix="headrace-rates-") as spill:
        con = duckdb.connect(config={"memory_limit": memory, "temp_directory": spill})
        try:
            con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            con.execute("SET preserve_insertion_order = false")
            _views(con, files, items, profiles)
            con.execute(_ENGAGED, {"engaging": sorted(engaging)})
            rates = _rates(con)
            (familiar,) = con.execute(_FAMILIAR).fetchall()
            if familiar[0]:
                rates[FAMILIAR] = Sums(*familiar)
            return DayRates(day, rates, dict(con.execute(_MIX).fetchall()))
        except duckdb.Error as error:
            bad = unreadable(paths)
            msg = f"behaviour of {day}: cannot be measured ({str(error).splitlines()[0]})"
            raise bad or LakeError(msg) from error
        finally:
            con.close()


def _views(con: Any, files: Sequence[str], items: Sequence[str], profiles: Path | None) -> None:
    """Create ``events``, ``items`` (one category each) and ``profiles`` (up to three categories per user)."""
    con.read_parquet(list(files), hive_partitioning=False, union_by_name=True).create_view("events")
    newest = "SELECT NULL::VARCHAR AS item_id, NULL::VARCHAR AS category WHERE false"
    if items:
        con.read_parquet(list(items), hive_partitioning=False, union_by_name=True).create_view("records")
        newest = (
            "SELECT item_id, arg_max(categories[1], ingested_at) AS category FROM records GROUP BY item_id"
        )
    con.execute(f"CREATE TEMP TABLE written AS {newest}")
    _normalize(con)
    liked = "SELECT NULL::VARCHAR AS user_id, NULL::VARCHAR[] AS liked WHERE false"
    if profiles is not None:
        con.read_parquet(str(profiles), hive_partitioning=False).create_view("built")
        liked = f"SELECT user_id, categories[:{TOP}] AS liked FROM built"
    con.execute(f"CREATE TEMP VIEW profiles AS {liked}")


def _normalize(con: Any) -> None:
    """Create ``items`` from ``written``, with categories normalized as in the profiles."""
    import pyarrow as pa  # noqa: PLC0415

    found = con.execute("SELECT DISTINCT category FROM written WHERE category IS NOT NULL").fetchall()
    names = [name for (name,) in found]
    spelling = pa.table(
        {"written": pa.array(names, pa.string()), "category": pa.array(map(normalized, names), pa.string())}
    )
    con.register("spelling", spelling)
    con.execute(
        "CREATE TEMP TABLE items AS SELECT item_id, s.category "
        "FROM written AS w LEFT JOIN spelling AS s ON w.category = s.written"
    )


def _rates(con: Any) -> dict[str, Sums]:
    """Count events of each type by session and sum them, in one pass."""
    types = [kind for (kind,) in con.execute(_TYPES).fetchall()]
    counts = ", ".join(
        f"count(*) FILTER (event_type = {_text(kind)})::DOUBLE AS n{i}" for i, kind in enumerate(types)
    )
    names = {
        f"{kind}_per_{base}": (f"n{i}", column)
        for i, kind in enumerate(types)
        for base, column in [_base(kind, types)]
    }
    sums = ", ".join(
        f"sum({x}), sum({y}), sum({x} * {x}), sum({x} * {y}), sum({y} * {y})" for y, x in names.values()
    )
    query = (
        f"SELECT count(*), {sums} FROM (SELECT 1::DOUBLE AS one, {counts} FROM events GROUP BY session_id)"
    )
    (row,) = con.execute(query).fetchall()
    # Each session is one arrival, so the daily number of sessions varies like a Poisson count.
    found = {"sessions": Sums(x=1, y=row[0], yy=row[0])}
    cells = iter(row[1:])
    for name in names:
        found[name] = Sums(*(next(cells) for _ in range(5)))
    return found


def _base(kind: str, types: Sequence[str]) -> tuple[str, str]:
    """Return the unit that a type's events are divided by, and its column."""
    wanted = "session" if kind in _VISITS else "impression" if kind == "click" else "click"
    return (wanted, f"n{types.index(wanted)}") if wanted in types else ("session", "one")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
