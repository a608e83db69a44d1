"""What the fold of a training set reads of the lake: the newest record of what the days name, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Item, User, to_arrow
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from orchestration.training import reading
from orchestration.training.reading import events_by_session, items_named, parquet, users_who_stated
from tests.support.offline import day_events, event, write_events

pytestmark = pytest.mark.usefixtures("zone")

DAY = date(2024, 5, 30)
T0 = datetime(2024, 5, 30, tzinfo=UTC)


@pytest.fixture
def con(home: Home) -> duckdb.DuckDBPyConnection:
    lake = Lake(home.lake)
    events = [
        event(n, T0 + timedelta(minutes=n), session_id=f"s{n % 2}", user_id=f"u{n % 3}", item_id=f"i{n % 4}")
        for n in range(12)
    ]
    write_events(lake, DAY, [*events[6:], *events[:6]])
    found = duckdb.connect()
    found.execute("SET TimeZone = 'UTC'")
    found.execute(f"CREATE VIEW events AS SELECT * FROM {parquet(lake.files('event'))}")
    return found


def written(folder: Path, kind: Any, *batches: Sequence[Item | User]) -> list[str]:
    """Files of records, each ingested an hour after the one before."""
    files = []
    for n, records in enumerate(batches):
        path = folder / f"{kind}-{n}.parquet"
        pq.write_table(to_arrow(kind, records, T0 + timedelta(hours=n)), path)
        files.append(str(path))
    return files


@pytest.mark.parametrize("size", [1, 5, 5_000])
def test_events_come_by_session_and_time_whatever_the_batch(
    con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(reading, "ROWS", size)
    found = [(e.session_id, e.event_time) for e in events_by_session(con)]
    assert found == sorted(found)
    assert len(found) == 12


def test_of_items_the_newest_record_of_those_named_is_read(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    old = [Item(item_id=f"i{n}", title="old") for n in range(100)]
    new = [Item(item_id="i1", title="new"), Item(item_id="i70", title="new")]
    found = {item.item_id: item.title for item in items_named(con, written(tmp_path, "item", old, new))}
    assert found == {"i0": "old", "i1": "new", "i2": "old", "i3": "old"}


def test_of_users_those_whose_newest_record_states_consent_are_read(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = [User(user_id=f"u{n}", consent=True) for n in range(5)]
    later = [User(user_id="u1", consent=False), User(user_id="u2")]  # withdrawn; takes back what was stated
    files = written(tmp_path, "user", first, later)
    assert {u.user_id: u.consent for u in users_who_stated(con, files)} == {"u0": True, "u1": False}


def test_without_records_there_are_none(con: duckdb.DuckDBPyConnection) -> None:
    assert list(items_named(con, [])) == list(users_who_stated(con, [])) == []


def test_reading_goes_on_while_the_connection_is_asked_something_else(
    con: duckdb.DuckDBPyConnection, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ROWS", 2)
    write_events(Lake(home.lake), DAY + timedelta(days=1), day_events(DAY + timedelta(days=1), 5))
    rows = events_by_session(con)
    seen = [next(rows).event_id]
    assert con.execute("SELECT count(*) FROM events").fetchall() == [(12,)]
    seen += [e.event_id for e in rows]
    assert len(set(seen)) == 12
