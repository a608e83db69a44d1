"""The rates of one day, measured in DuckDB over the lake's files in bounded memory."""

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
"""Categories of a profile that count as what its user likes."""
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

    ``sessions`` is a count; ``<type>_per_session`` of impressions and searches, ``click_per_impression`` and
    ``<type>_per_click`` of the rest (``_per_session`` where nothing is clicked) count events;
    ``familiar_per_engagement`` is the share of engagements with one of the three categories that the user's
    profile held dearest when the day began.

    Args:
        files: events of the day.
        items: item records; the newest of each counts.
        profiles: build of the users' profiles as of the start of the day; without it nothing is familiar.
        engaging: event types that show a liking.
        memory: DuckDB's limit; beyond it, it spills to disk.

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
    """``events``, ``items`` (one category each) and ``profiles`` (up to three categories a user)."""
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
    """``items`` from ``written``, with categories spelled as the profiles spell them."""
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
    """One pass: events of each type by session, then their sums."""
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
    # Each session is one arrival: their count varies as a Poisson one, whatever the day.
    found = {"sessions": Sums(x=1, y=row[0], yy=row[0])}
    cells = iter(row[1:])
    for name in names:
        found[name] = Sums(*(next(cells) for _ in range(5)))
    return found


def _base(kind: str, types: Sequence[str]) -> tuple[str, str]:
    """What events of a type are counted against, and its column."""
    wanted = "session" if kind in _VISITS else "impression" if kind == "click" else "click"
    return (wanted, f"n{types.index(wanted)}") if wanted in types else ("session", "one")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
