"""The point-in-time join as SQL: for each entity row, the newest feature values known at its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_LAST = 2**63 - 1
_TIME = "__time"
_ORDER = "__order"


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text literal."""
    return "'" + value.replace("'", "''") + "'"


def instant(time: datetime) -> str:
    """Format a moment as a literal."""
    return f"TIMESTAMPTZ {text(time.isoformat())}"


@dataclass(frozen=True)
class FeatureTable:
    """A feature view as input of the join.

    Attributes:
        source: a table expression, e.g. ``read_parquet('…')``.
        keys: pairs of the source's column and the entity frame's column that must be equal; may be empty.
        as_text: key columns of the source that are compared as text, so that the engine casts neither side.
        features: pairs of the source's column and its name in the result.
        event_time: the source's column with the time at which a value became true.
        created: the source's column with the time at which it was written; decides between equal event times.
        ttl: age beyond which a value counts as absent; `None` keeps values forever.
    """

    source: str
    keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]
    event_time: str
    created: str | None = None
    ttl: timedelta | None = None
    as_text: frozenset[str] = frozenset()


def point_in_time_sql(
    entity: str,
    columns: Sequence[str],
    time_column: str,
    tables: Sequence[FeatureTable],
    *,
    bounds: tuple[datetime, datetime] | None = None,
    exclude_late: bool = False,
) -> str:
    """Return SQL for entity rows with each table's values as of the row's time, in no particular order.

    Of a table's rows with the entity's keys and an event time not after the entity's time, the one with the
    newest event time counts; of equal event times, the one created last. A value older than `ttl` is absent.

    Args:
        entity: name of the table of entity rows.
        columns: its columns, kept in the result.
        time_column: the entity's time among them.
        bounds: smallest and largest entity time, if known; rows that no entity time can reach are not read.
        exclude_late: count only values created no later than the entity's time (if a table has `created`).
    """
    time = f"CAST(e.{quoted(time_column)} AS TIMESTAMPTZ)"
    selected = [f"e.{quoted(c)}" for c in columns]
    joins = []
    for number, table in enumerate(tables):
        late = exclude_late and table.created is not None
        rows = _known(table, bounds) if late else _rows(table, bounds)
        place = time if late or table.created is None else f"{_place(time, str(_LAST))}"
        match = [
            f"{_key(table, theirs, f'e.{quoted(ours)}')} = t{number}.{quoted(theirs)}"
            for theirs, ours in table.keys
        ]
        match.append(f"{place} >= t{number}.{_ORDER}")
        joins.append(f"ASOF LEFT JOIN ({rows}) AS t{number} ON {' AND '.join(match)}")
        selected += [_value(number, name, table.ttl, time) for _, name in table.features]
    return f"SELECT {', '.join(selected)} FROM {quoted(entity)} AS e {' '.join(joins)}"


def _value(number: int, name: str, ttl: timedelta | None, time: str) -> str:
    column = f"t{number}.{quoted(_prefixed(name))}"
    if not ttl:
        return f"{column} AS {quoted(name)}"
    return f"CASE WHEN t{number}.{_TIME} + {_interval(ttl)} >= {time} THEN {column} END AS {quoted(name)}"


def _prefixed(name: str) -> str:
    return f"f:{name}"


def _interval(span: timedelta) -> str:
    return f"to_microseconds({span // timedelta(microseconds=1)})"


def _place(time: str, created: str) -> str:
    """Combine event time and creation in one number, so that the join decides between equal event times."""
    return f"(epoch_us({time})::HUGEINT * 18446744073709551616 + {created})"


def _time(table: FeatureTable) -> str:
    return f"CAST({quoted(table.event_time)} AS TIMESTAMPTZ)"


def _created(table: FeatureTable) -> str:
    return f"coalesce(epoch_us(CAST({quoted(str(table.created))} AS TIMESTAMPTZ)), {-_LAST})"


def _key(table: FeatureTable, theirs: str, column: str) -> str:
    return f"CAST({column} AS VARCHAR)" if theirs in table.as_text else column


def _columns(table: FeatureTable) -> list[str]:
    keys = dict.fromkeys(
        f"{_key(table, theirs, quoted(theirs))} AS {quoted(theirs)}" for theirs, _ in table.keys
    )
    features = [f"{quoted(source)} AS {quoted(_prefixed(name))}" for source, name in table.features]
    return [*keys, *features, f"{_time(table)} AS {_TIME}"]


def _within(table: FeatureTable, bounds: tuple[datetime, datetime] | None) -> str:
    """Keep rows that an entity row can reach; the bare column lets DuckDB skip row groups."""
    conditions = [f"{quoted(table.event_time)} IS NOT NULL"]
    if bounds is not None:
        first, last = bounds
        conditions.append(f"{quoted(table.event_time)} <= {instant(last)}")
        if table.ttl:
            conditions.append(f"{quoted(table.event_time)} >= {instant(first)} - {_interval(table.ttl)}")
    return " AND ".join(conditions)


def _rows(table: FeatureTable, bounds: tuple[datetime, datetime] | None) -> str:
    order = _time(table) if table.created is None else _place(_time(table), _created(table))
    columns = ", ".join([*_columns(table), f"{order} AS {_ORDER}"])
    return f"SELECT {columns} FROM {table.source} WHERE {_within(table, bounds)}"


def _known(table: FeatureTable, bounds: tuple[datetime, datetime] | None) -> str:
    """Return rows by the time they became known, without those already outdated then.

    A row is known from ``greatest(event time, created)`` on. In that order the newest so far is the answer at
    any moment, so a row that arrives after a newer one never is. The remaining rows rise in both times, and
    one ASOF join on the known time finds the newest known row.
    """
    created = f"CAST({quoted(str(table.created))} AS TIMESTAMPTZ)"
    known = f"greatest({_time(table)}, {created})"
    newest = _place(_time(table), _created(table))
    columns = ", ".join([*_columns(table), f"{known} AS {_ORDER}", f"{newest} AS __newest"])
    keys = ", ".join(dict.fromkeys(quoted(theirs) for theirs, _ in table.keys))
    partition = f"PARTITION BY {keys} " if keys else ""
    within = f"{_within(table, bounds)} AND {quoted(str(table.created))} IS NOT NULL"
    return (
        f"SELECT * EXCLUDE (__newest) FROM (SELECT {columns} FROM {table.source} WHERE {within}) "
        f"QUALIFY __newest >= max(__newest) OVER ({partition}ORDER BY {_ORDER} "
        "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
