"""Reading one view of Feast's SQLite layout, where a row is a line per feature."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from feature_repo.clock import time_of
from feature_repo.online.decoding import decode_values
from feature_repo.online.layout import ViewLayout
from feature_repo.online.row_memo import KeptRows
from feature_repo.online.rows import OnlineRow

KEYS_PER_QUERY = 500
_OURS = 3
"""Columns read of `headrace_times`; a line of Feast's table has four."""


def feast_seconds(time: datetime) -> int:
    """A time as Feast's SQLite adapter stores it: naive UTC, taken for local time, in whole seconds."""
    return int(time.astimezone(UTC).replace(tzinfo=None).timestamp())


def row_time(seconds: int, micros: int | None, written: int | None) -> datetime:
    """The event time of a row: to the microsecond if Headrace wrote it last, else what Feast kept.

    Args:
        seconds: what the row holds now.
        micros: the time Headrace wrote last.
        written: the seconds it wrote with it; absent in rows of versions that did not keep them.
    """
    if micros is not None:
        exact = time_of(micros)
        if seconds == (feast_seconds(exact) if written is None else written):
            return exact
    return datetime.fromtimestamp(seconds).replace(tzinfo=UTC)  # noqa: DTZ006 - Feast's own reading


class SqliteView:
    """One view, for every connection.

    Args:
        remembered: decoded rows that are kept.
    """

    def __init__(self, layout: ViewLayout, remembered: int) -> None:
        self._layout = layout
        self._kept = KeptRows(self._decode, remembered)

    def rows(self, connection: sqlite3.Connection, keys: Mapping[bytes, str]) -> Iterator[OnlineRow]:
        """The rows there are of entity keys, whose texts are given.

        Raises:
            sqlite3.Error: the file cannot be read, or has no such table yet.
            StoreError: a value is damaged.
        """
        table = self._layout.table
        for part in parts(list(keys)):
            among = f"WHERE entity_key IN ({placeholders(part)})"
            query = f'SELECT entity_key, feature_name, value, event_ts FROM "{table}" {among}'
            # Times by a query of their own: joined, each line would look its row's up again.
            times = f"SELECT entity_key, micros, seconds FROM headrace_times {among} AND view = ?"
            lines: dict[bytes, list[Any]] = {}
            for line in connection.execute(query, part).fetchall():
                lines.setdefault(line[0], []).append(line)
            for ours in connection.execute(times, (*part, table)).fetchall() if lines else ():
                lines.get(ours[0], []).append(ours)
            for raw_key, found in lines.items():
                row = self._kept.row(keys[raw_key], found)
                if row is not None:
                    yield row

    def _decode(self, found: list[Any]) -> tuple[dict[str, Any], datetime]:
        """Values and time of a row's lines, and of the exact time behind them where it is known."""
        ours = len(found[-1]) == _OURS
        lines = found[:-1] if ours else found
        micros, written = found[-1][1:] if ours else (None, None)
        raws = {name: value for _, name, value, _ in lines}
        values = decode_values(self._layout.names, [raws.get(name) for name in self._layout.names])
        return values, row_time(lines[0][3], micros, written)


def parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Keys in as many as one query takes."""
    for start in range(0, len(keys), KEYS_PER_QUERY):
        yield keys[start : start + KEYS_PER_QUERY]


def placeholders(part: Sequence[bytes]) -> str:
    """Placeholders of a query's arguments."""
    return ",".join("?" * len(part))
