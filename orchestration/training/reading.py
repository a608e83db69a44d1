"""Reads lake records for the fold, a few thousand at a time; of a catalogue, only those the days name."""

from collections.abc import Iterator, Sequence

import duckdb

from feature_repo.contract.validation import Event, Item, Kind, Record, User, from_arrow
from feature_repo.offline.point_in_time import text

ROWS = 5_000


def parquet(files: Sequence[str], *, filename: bool = False) -> str:
    """Return SQL for files as a table, with the column ``filename`` if requested."""
    listed = ", ".join(text(name) for name in files)
    more = ", filename = true" if filename else ""
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true{more})"


def events_by_session(con: duckdb.DuckDBPyConnection) -> Iterator[Event]:
    """Yield the view ``events`` by session and time, sessions in the order in which they began."""
    began = "SELECT session_id, min(event_time) AS began FROM events GROUP BY session_id"
    query = (
        f"SELECT e.* FROM events e JOIN ({began}) b USING (session_id) "
        "ORDER BY b.began, session_id, event_time, event_id"
    )
    yield from _records(con, query, "event")  # type: ignore[misc]


def items_named(con: duckdb.DuckDBPyConnection, files: Sequence[str]) -> Iterator[Item]:
    """Yield the newest record of each item named in the view ``events``."""
    yield from _newest(con, files, "item", "true")  # type: ignore[misc]


def users_who_stated(con: duckdb.DuckDBPyConnection, files: Sequence[str]) -> Iterator[User]:
    """Yield the newest record of each user in the view ``events`` if it states consent, for the fold."""
    yield from _newest(con, files, "user", "consent IS NOT NULL")  # type: ignore[misc]


def _newest(con: duckdb.DuckDBPyConnection, files: Sequence[str], kind: Kind, that: str) -> Iterator[Record]:
    key = f"{kind}_id"
    if files:
        newest = (
            f"SELECT * FROM {parquet(files)} WHERE {key} IN (SELECT {key} FROM events) "
            f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY ingested_at DESC) = 1"
        )
        yield from _records(con, f"SELECT * FROM ({newest}) WHERE {that}", kind)


def _records(con: duckdb.DuckDBPyConnection, query: str, kind: Kind) -> Iterator[Record]:
    # A separate cursor, because the consumer keeps querying.
    for batch in con.cursor().sql(query).to_arrow_reader(ROWS):
        for row in batch.to_pylist():
            yield from_arrow(kind, row)
