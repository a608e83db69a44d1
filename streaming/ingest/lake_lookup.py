"""Finds which records of a batch the lake already holds: a DuckDB anti-join, exact and in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pyarrow as pa

from feature_repo.consent import stated_sql
from feature_repo.contract.columns import LAKE_ONLY
from feature_repo.contract.validation import Event, Item, Kind, Record, User, arrow_schema, to_arrow
from feature_repo.errors import LakeError
from feature_repo.lake.lake import Lake, unreadable

_MEMORY = "512MB"
_FILES_AT_ONCE = 500
_STATES = ("user_id", "ingested_at", "consent")


class LakeLookup:
    """Lookup that reads only the ids of the batch's days, so its cost depends on the batch, not the lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._con = duckdb.connect(config={"memory_limit": _MEMORY, "threads": 2})
        self._con.execute("SET TimeZone = 'UTC'")

    def known_ids(self, events: Sequence[Event]) -> set[tuple[date, str]]:
        """Return the (event day, event id) pairs of the batch that the lake holds."""
        by_day: dict[date, list[str]] = {}
        for event in events:
            by_day.setdefault(event.event_time.date(), []).append(event.event_id)
        known: set[tuple[date, str]] = set()
        files: list[str] = []
        days: list[date] = []
        ids: list[str] = []
        for day, of_day in by_day.items():
            if found := self._lake.files_of(day):
                files += found
                days += [day] * len(of_day)
                ids += of_day
            if len(files) >= _FILES_AT_ONCE:
                known |= self._present(files, days, ids)
                files, days, ids = [], [], []
        return known | self._present(files, days, ids) if files else known

    def _present(self, files: list[str], days: list[date], ids: list[str]) -> set[tuple[date, str]]:
        wanted = pa.table({"day": pa.array(days, pa.date32()), "event_id": ids})
        query = (
            "SELECT DISTINCT w.day, w.event_id FROM wanted w "
            "SEMI JOIN (SELECT event_id, CAST(event_time AS DATE) AS day FROM read_parquet($files, "
            "hive_partitioning = false, union_by_name = true)) l ON w.event_id = l.event_id AND w.day = l.day"
        )
        found = self._rows(query, files, wanted, ("event_id", "event_time"))
        return set(zip(found["day"].to_pylist(), found["event_id"].to_pylist(), strict=True))

    def newest(self, kind: Kind, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the lake's newest row of each of these items or users, by id, without ``ingested_at``."""
        files = self._lake.files(kind)
        if not files or not ids:
            return {}
        key = f"{kind}_id"
        wanted = pa.table({"id": pa.array(ids, pa.string())})
        query = (
            f"SELECT t.* FROM read_parquet($files, union_by_name = true) t "
            f"SEMI JOIN wanted ON {key} = wanted.id "
            f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY ingested_at DESC) = 1"
        )
        return {
            row[key]: _comparable(kind, row)
            for row in self._rows(query, files, wanted, (key, "ingested_at")).to_pylist()
        }

    def denying(self, users: Collection[str]) -> Collection[str]:
        """Return the users whose newest record in the lake denies consent."""
        files = self._lake.files("user")
        if not files or not users:
            return ()
        wanted = pa.table({"user_id": pa.array(sorted(users), pa.string())})
        among = "read_parquet($files, union_by_name = true) SEMI JOIN wanted USING (user_id)"
        query = f"SELECT user_id FROM ({stated_sql(among)}) WHERE NOT stated"
        found: list[str] = self._rows(query, files, wanted, _STATES)["user_id"].to_pylist()
        return found

    def _rows(self, query: str, files: Sequence[str], wanted: pa.Table, needs: Sequence[str]) -> pa.Table:
        self._con.register("wanted", wanted)
        try:
            return self._con.sql(query, params={"files": list(files)}).to_arrow_table()
        except duckdb.Error as error:
            raise unreadable(files, needs) or LakeError(f"lake {self._lake.root}: {error}") from error
        finally:
            self._con.unregister("wanted")

    def close(self) -> None:
        """Close DuckDB."""
        self._con.close()


def rows_of(kind: Kind, records: Sequence[Item | User]) -> list[dict[str, Any]]:
    """Return items or users as the lake would return them, to compare with `LakeLookup.newest`."""
    table = to_arrow(kind, records, _ANY_TIME)
    return [_comparable(kind, row) for row in table.to_pylist()]


def _comparable(kind: Kind, row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in _COLUMNS[kind]}


def id_of(record: Record) -> str:
    """Return the key of a record within its kind."""
    if isinstance(record, Event):
        return record.event_id
    return record.item_id if isinstance(record, Item) else record.user_id


_ANY_TIME = datetime.min.replace(tzinfo=UTC)
_COLUMNS: dict[Kind, list[str]] = {
    kind: [name for name in arrow_schema(kind).names if name not in LAKE_ONLY]
    for kind in ("event", "item", "user")
}
