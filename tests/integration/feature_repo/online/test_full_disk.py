"""SQLite on a disk that fills up: one error then, and the same store goes on once there is room."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from feature_repo.errors import StoreError
from feature_repo.groups import all_groups
from feature_repo.online import OnlineRow
from feature_repo.online.sqlite_store import SqliteStore

SESSION, USER = all_groups()["session_profile"], all_groups()["user_profile"]
ROW = OnlineRow("a", {"event_count": 3, "queries": ["q" * 200_000]}, datetime(2024, 6, 1, tzinfo=UTC))


@contextmanager
def no_more_pages(store: SqliteStore) -> Iterator[None]:
    """Let SQLite itself report a full disk, in the middle of a transaction."""
    connection = store._connections.of_thread().connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    connection.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def no_larger_files(store: SqliteStore) -> Iterator[None]:
    """Let the operating system refuse to write, which SQLite meets when it commits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{store._path}-wal").stat().st_size + 5000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("full", [no_more_pages, no_larger_files])
def test_a_first_write_refused_by_a_full_disk_succeeds_once_there_is_room(
    tmp_path: Path, full: Callable[[SqliteStore], AbstractContextManager[None]]
) -> None:
    store = SqliteStore(str(tmp_path / "online.db"))
    store.put_marks({"m": b"1"})
    with full(store):
        for _ in range(2):
            with pytest.raises(StoreError, match="its disk not full") as caught:
                store.write(SESSION, [ROW])
            assert "transaction" not in str(caught.value), "the cause, not what it led to"
        assert store.read([(SESSION, "a")]) == [None]
    assert store.write(SESSION, [ROW]) == 1
    assert store.delete(USER, ["nobody"]) == 0
    [found] = store.read([(SESSION, "a")])
    assert found is not None
    assert found.values["event_count"] == 3
    store.close()
