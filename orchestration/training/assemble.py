"""Joins examples and features: logged values first, a point-in-time join if nothing was logged."""

from collections.abc import Sequence

from feature_repo.group import CREATED_TIMESTAMP, EVENT_TIMESTAMP, FeatureGroup
from feature_repo.groups.segment_profile import EVERYONE
from feature_repo.offline.point_in_time import FeatureTable, point_in_time_sql, quoted, text

LOGGED, JOINED, FOLDED, NONE = "logged", "point_in_time", "fold", "none"


def builds_table(group: FeatureGroup, files: Sequence[str], table: str, key: str) -> FeatureTable:
    """Describe a group's builds for the join, with every column prefixed by the group's name.

    Args:
        table, key: the examples, and their entity column; rows of other entities are not joined.
    """
    listed = ", ".join(text(name) for name in files)
    whole = f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"
    named = f"SELECT {quoted(key)} FROM {quoted(table)}"
    columns = [(name, column(group, name)) for name in group.feature_names]
    return FeatureTable(
        source=f"(SELECT * FROM {whole} WHERE {quoted(group.entity.join_key)} IN ({named}))",
        keys=((group.entity.join_key, key),),
        features=(*columns, (EVENT_TIMESTAMP, column(group, "event_time"))),
        event_time=EVENT_TIMESTAMP,
        created=CREATED_TIMESTAMP,
        ttl=group.ttl,
    )


def column(group: FeatureGroup, name: str) -> str:
    """Return the name of a group's column in the training set."""
    return f"{group.name}__{name}"


def joined_sql(
    table: str,
    columns: Sequence[str],
    group: FeatureGroup,
    files: Sequence[str],
    logged: str | None,
    *,
    key: str,
) -> str:
    """Return SQL for a table with a group's columns and their source added.

    Args:
        table, columns: the table so far; has ``request_id`` and ``decision_time``.
        files: the group's builds; may be empty.
        logged: table of `logged.row_schema` with one row per request, or `None`.
        key: the entity column.
    """
    base = f"SELECT * FROM {table}"
    if files:
        base = point_in_time_sql(table, columns, "decision_time", [builds_table(group, files, table, key)])
    return _first(base, columns, group, logged, fallback=JOINED if files else None)


def folded_sql(
    table: str, columns: Sequence[str], group: FeatureGroup, folded: str, logged: str | None
) -> str:
    """Like `joined_sql`, for a stream group: the fallback is the folded row of the request."""
    taken = [f"f.{quoted(name)} AS {quoted(column(group, name))}" for name in group.feature_names]
    taken.append(f"f.{EVENT_TIMESTAMP} AS {quoted(column(group, 'event_time'))}")
    base = f"SELECT e.*, {', '.join(taken)} FROM {table} e LEFT JOIN {folded} f USING (request_id)"
    return _first(base, columns, group, logged, fallback=FOLDED)


def segment_sql(table: str, group: FeatureGroup) -> str:
    """Return SQL that adds the segment of each example's user; the overall segment if the user is unknown."""
    name = quoted(column(group, "segment"))
    return f"SELECT *, coalesce({name}, {text(EVERYONE)}) AS segment FROM {table}"


def _first(
    base: str, columns: Sequence[str], group: FeatureGroup, logged: str | None, fallback: str | None
) -> str:
    kept = ", ".join(f"b.{quoted(name)}" for name in columns)
    names = [(name, column(group, name)) for name in group.feature_names]
    names.append((EVENT_TIMESTAMP, column(group, "event_time")))
    there = f"b.{quoted(column(group, 'event_time'))} IS NOT NULL" if fallback else "false"
    source = f"CASE WHEN {there} THEN '{fallback}' ELSE '{NONE}' END"
    types = {f.name: f.type for f in group.arrow_schema}
    values = [
        (f"b.{quoted(ours)}" if fallback else f"CAST(NULL AS {_sql_type(str(types[theirs]))})", theirs, ours)
        for theirs, ours in names
    ]
    if logged is None:
        chosen = ", ".join(f"{value} AS {quoted(ours)}" for value, _, ours in values)
        return f"SELECT {kept}, {source} AS {quoted(column(group, 'source'))}, {chosen} FROM ({base}) b"
    chosen = ", ".join(
        f"CASE WHEN l.request_id IS NOT NULL THEN l.{quoted(theirs)} ELSE {value} END AS {quoted(ours)}"
        for value, theirs, ours in values
    )
    return (
        f"SELECT {kept}, CASE WHEN l.request_id IS NOT NULL THEN '{LOGGED}' ELSE {source} END "
        f"AS {quoted(column(group, 'source'))}, {chosen} "
        f"FROM ({base}) b LEFT JOIN {logged} l ON b.request_id = l.request_id"
    )


_SQL_TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "float": "FLOAT",
    "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}


def _sql_type(arrow: str) -> str:
    if arrow.startswith("list<"):
        return f"{_SQL_TYPES[arrow.split(': ', 1)[1].removesuffix('>')]}[]"
    return _SQL_TYPES[arrow]
