"""The online store on SQLite: the embedded default, in the file Feast reads.

Feast keeps event times there in whole seconds of a naive local time. `headrace_times` keeps the microseconds
beside them, so that writes are monotone within a second too, and the seconds that were written with them:
while those are unchanged the row is ours and its time is exact, whatever zone this process runs in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from feature_repo.clock import micros_of, time_of
from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online.layout import ViewLayout, entity_key, layout_of
from feature_repo.online.rows import EncodedRow, OnlineRow, encode_rows
from feature_repo.online.sqlite_connections import SqliteConnections
from feature_repo.online.sqlite_view import SqliteView, feast_seconds, parts, placeholders, row_time

_FEAST_TABLE = """
CREATE TABLE IF NOT EXISTS "{table}" (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT,
    vector_value BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name));
CREATE INDEX IF NOT EXISTS "{table}_ek" ON "{table}" (entity_key);
"""


class SqliteStore:
    """`OnlineStore` on one SQLite file, in WAL mode, with a connection per thread.

    Args:
        path: the file; made at first use.
        timeout_s: how long a write waits for another process's write.
        remembered: decoded rows of each group that are kept, for who reads the same ones over and over.
    """

    def __init__(self, path: str, timeout_s: float = 5.0, remembered: int = 0) -> None:
        self._path = path
        self._remembered = remembered
        self._views: dict[str, SqliteView] = {}
        self._connections = SqliteConnections(path, timeout_s)

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        """See `OnlineStore.write`. Check and write are one transaction."""
        return self.write_encoded(group, encode_rows(group, rows))

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        """See `OnlineStore.write_encoded`."""
        layout = layout_of(group)
        upsert = (
            f'INSERT INTO "{layout.table}" (entity_key, feature_name, value, event_ts) VALUES (?, ?, ?, ?) '
            "ON CONFLICT (entity_key, feature_name) DO UPDATE SET "
            "value = excluded.value, value_text = NULL, event_ts = excluded.event_ts, created_ts = NULL"
        )
        taken = {entity_key(layout.join_key, row.key): row for row in rows}
        with self._connection() as connection, self._made(layout), _transaction(connection):
            self._make_table(connection, layout)
            if check:
                for key, micros in self._times(connection, layout, list(taken)).items():
                    if taken[key].micros < micros:
                        del taken[key]
            written = {key: feast_seconds(time_of(row.micros)) for key, row in taken.items()}
            for key, row in taken.items():
                seconds = written[key]
                lines = [(key, n, raw, seconds) for n, raw in zip(layout.names, row.values, strict=True)]
                connection.executemany(upsert, lines)
            connection.executemany(
                "INSERT OR REPLACE INTO headrace_times (view, entity_key, micros, seconds) "
                "VALUES (?, ?, ?, ?)",
                [(layout.table, key, row.micros, written[key]) for key, row in taken.items()],
            )
        return len(taken)

    def read(self, requests: Sequence[tuple[FeatureGroup, str]]) -> list[OnlineRow | None]:
        """See `OnlineStore.read`. One query per group, all in one transaction: each takes locks else."""
        wanted: dict[str, tuple[ViewLayout, dict[bytes, str]]] = {}
        for group, key in requests:
            layout = layout_of(group)
            keys = wanted.setdefault(layout.table, (layout, {}))[1]
            keys[entity_key(layout.join_key, key)] = key
        found: dict[tuple[str, str], OnlineRow] = {}
        with self._connection(write=False) as connection, _transaction(connection, "DEFERRED"):
            for layout, keys in wanted.values():
                for row in self._rows(connection, layout, keys):
                    found[layout.table, row.key] = row
        return [found.get((layout_of(group).table, key)) for group, key in requests]

    def delete(self, group: FeatureGroup, keys: Iterable[str]) -> int:
        """See `OnlineStore.delete`."""
        layout = layout_of(group)
        removed = 0
        with self._connection() as connection, self._made(layout), _transaction(connection):
            self._make_table(connection, layout)
            for key in keys:
                raw = entity_key(layout.join_key, key)
                cursor = connection.execute(f'DELETE FROM "{layout.table}" WHERE entity_key = ?', (raw,))
                removed += cursor.rowcount > 0
                connection.execute(
                    "DELETE FROM headrace_times WHERE view = ? AND entity_key = ?", (layout.table, raw)
                )
        return removed

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        """See `OnlineStore.put_marks`."""
        with self._connection() as connection, _transaction(connection):
            connection.executemany("INSERT OR REPLACE INTO headrace_marks VALUES (?, ?)", marks.items())

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        """See `OnlineStore.marks`."""
        with self._connection() as connection:
            lines = connection.execute("SELECT name, value FROM headrace_marks").fetchall()
        return {name: value for name, value in lines if name.startswith(prefix)}

    def close(self) -> None:
        """See `OnlineStore.close`. Closes the connections of every thread."""
        self._connections.close()

    def _times(
        self, connection: sqlite3.Connection, layout: ViewLayout, keys: Sequence[bytes]
    ) -> dict[bytes, int]:
        times: dict[bytes, int] = {}
        for part in parts(keys):
            query = (
                f'SELECT f.entity_key, max(f.event_ts), t.micros, t.seconds FROM "{layout.table}" f '
                "LEFT JOIN headrace_times t ON t.view = ? AND t.entity_key = f.entity_key "
                f"WHERE f.entity_key IN ({placeholders(part)}) GROUP BY f.entity_key"
            )
            for key, seconds, *ours in connection.execute(query, (layout.table, *part)):
                times[key] = micros_of(row_time(seconds, *ours))
        return times

    def _rows(
        self, connection: sqlite3.Connection, layout: ViewLayout, keys: Mapping[bytes, str]
    ) -> list[OnlineRow]:
        """Rows of a view; none where nothing was ever written to it."""
        missing: dict[str, int] = self._connections.of_thread().missing
        # The schema's version is that of all tables: as long as it stands, a missing one is missing.
        if layout.table in missing and missing[layout.table] == _schema_version(connection):
            return []
        view = self._views.get(layout.table)
        if view is None:
            view = self._views[layout.table] = SqliteView(layout, self._remembered)
        try:
            return list(view.rows(connection, keys))
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            missing[layout.table] = _schema_version(connection)
            return []

    def _make_table(self, connection: sqlite3.Connection, layout: ViewLayout) -> None:
        if layout.table not in self._connections.of_thread().made:
            for statement in _FEAST_TABLE.format(table=layout.table).split(";"):
                connection.execute(statement)

    @contextmanager
    def _made(self, layout: ViewLayout) -> Iterator[None]:
        """Remember a view's table once its transaction is committed: a full disk rolls the table back too."""
        yield
        self._connections.of_thread().made.add(layout.table)

    @contextmanager
    def _connection(self, write: bool = True) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connections.mine(write).connection
        except (sqlite3.Error, OSError) as error:
            msg = (
                f"online store: {self._path}: {error}; "
                "is HEADRACE_HOME writable, its disk not full, and the file a SQLite database?"
            )
            raise StoreError(msg) from error


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself where the disk was full
            connection.execute("ROLLBACK")
        raise


def _schema_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA schema_version").fetchone()[0])
