"""Where a shard's state outlives the process: one SQLite file, written in one transaction per snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from feature_repo.errors import StoreError

_TABLES = """
CREATE TABLE IF NOT EXISTS held (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class StateFile:
    """State by key, and a few facts about the shard (its watermark, items heard of).

    The whole state is loaded at start; a snapshot writes what changed since the last one. A snapshot is
    written before Bytewax commits the log position it belongs to, so whatever process dies, state is never
    behind the position. A power cut may take the newest snapshots with it (commits are not forced to the
    disk: with eight files each would stall the flow for a tenth of a second); that is why the shard's own
    position is a fact in the file, and reading resumes at the older of the two.

    Args:
        path: the file; made at first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._mapped():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=30
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_TABLES)

    def load(self) -> dict[str, bytes]:
        """State by key."""
        with self._mapped():
            return dict(self._connection.execute("SELECT key, value FROM held"))

    def facts(self) -> dict[str, bytes]:
        """The shard's facts."""
        with self._mapped():
            return dict(self._connection.execute("SELECT name, value FROM facts"))

    def save(self, changed: Mapping[str, bytes | None], facts: Mapping[str, bytes]) -> None:
        """Write changed state (`None` removes a key) and facts, all or nothing.

        Raises:
            StoreError: the file cannot be written; nothing of it was.
        """
        kept = [(key, value) for key, value in changed.items() if value is not None]
        gone = [(key,) for key, value in changed.items() if value is None]
        kept.sort()
        with self._mapped():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR REPLACE INTO held VALUES (?, ?)", kept)
                self._connection.executemany("DELETE FROM held WHERE key = ?", gone)
                self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            msg = (
                f"stream state {self._path}: {error}; is HEADRACE_HOME writable and its disk not full? "
                "Deleting HEADRACE_HOME/stream makes the stream begin anew from the log"
            )
            raise StoreError(msg) from error
