"""Connections to the SQLite online store: one per thread, opened again where the file was deleted."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from feature_repo.lock import locked

LOOK_EVERY_S = 0.25
"""How often a reading connection looks whether its file is still there; each write does."""
_log = logging.getLogger(__name__)
_OWN_TABLES = """
CREATE TABLE IF NOT EXISTS headrace_marks (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS headrace_times
    (view TEXT, entity_key BLOB, micros INTEGER, seconds INTEGER, PRIMARY KEY (view, entity_key))
    WITHOUT ROWID;
"""


@dataclass(slots=True)
class Opened:
    """A thread's connection.

    Attributes:
        identity: of the file it was opened on.
        look_at: when to look again whether that is still the file of its name (monotonic, s).
        made: tables known to be there.
        missing: tables known not to be there, with the version of the schema at which they were not.
    """

    connection: sqlite3.Connection
    identity: tuple[int, int] | None
    look_at: float
    made: set[str] = field(default_factory=set)
    missing: dict[str, int] = field(default_factory=dict)


class SqliteConnections:
    """A connection per thread to one file, in WAL mode.

    Args:
        path: the file; made at first use.
        timeout_s: how long a write waits for another process's write.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[sqlite3.Connection] = []

    def mine(self, write: bool) -> Opened:
        """This thread's connection to the file that is there now.

        Raises:
            sqlite3.Error, OSError: it cannot be opened.
        """
        mine: Opened | None = getattr(self._local, "mine", None)
        if mine is not None and self._replaced(mine, write):
            _log.warning("online store %s was deleted or replaced; it is opened again", self._path)
            self._forget(mine.connection)
            mine = None
        if mine is None:
            mine = self._local.mine = self._open()
        return mine

    def of_thread(self) -> Opened:
        """What `mine` returned last to this thread."""
        found: Opened = self._local.mine
        return found

    def close(self) -> None:
        """Close the connections of every thread."""
        with self._lock:
            while self._opened:
                self._opened.pop().close()
            self._local = threading.local()

    def _replaced(self, mine: Opened, write: bool) -> bool:
        now = time.monotonic()
        if not write and now < mine.look_at:
            return False
        mine.look_at = now + LOOK_EVERY_S
        return _identity(self._path) != mine.identity

    def _forget(self, connection: sqlite3.Connection) -> None:
        self._local.mine = None
        with self._lock, suppress(ValueError):
            self._opened.remove(connection)
        with suppress(sqlite3.Error):
            connection.close()

    def _open(self) -> Opened:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path.with_name(f".{self._path.name}.lock")):
            if not self._path.exists():  # what was left beside a deleted file is not the new one's
                for left in ("-wal", "-shm", "-journal"):
                    self._path.with_name(self._path.name + left).unlink(missing_ok=True)
            connection = self._connect()
            return Opened(connection, _identity(self._path), time.monotonic() + LOOK_EVERY_S)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_OWN_TABLES)
            _add_seconds(connection)
        except sqlite3.Error:
            connection.close()
            raise
        with self._lock:
            self._opened.append(connection)
        return connection


def _add_seconds(connection: sqlite3.Connection) -> None:
    """Add the column that files of earlier versions lack; another process may be at it too."""
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(headrace_times)")]
    if "seconds" not in columns:
        with suppress(sqlite3.OperationalError):
            connection.execute("ALTER TABLE headrace_times ADD COLUMN seconds INTEGER")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of its name; `None` where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
