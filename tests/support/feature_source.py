"""A fake store for the feature reader: rows in a dictionary, failures on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from feature_repo.online.rows import OnlineRow
from serving.features.reading import ReadLimits
from serving.features.row_source import Key

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
LIMITS = ReadLimits(
    store=timedelta(milliseconds=50),
    session_ttl=timedelta(hours=24),
    session_copy=timedelta(seconds=60),
    profile_copy=timedelta(hours=1),
    segment_reuse=timedelta(0),
)


class FakeSource:
    """Rows in a dictionary; can be set to fail or to hang."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], OnlineRow] = {}
        self.trips: list[list[tuple[str, str]]] = []
        self.failure: BaseException | None = None
        self.hangs = False

    def put(self, group: str, key: str, age: timedelta = timedelta(minutes=1), **values: Any) -> None:
        self.rows[group, key] = OnlineRow(key, values, NOW - age)

    def read(self, keys: Sequence[Key]) -> Coroutine[Any, Any, list[OnlineRow | None]]:
        self.trips.append([(group.name, key) for group, key in keys])
        return self._answer(keys)

    async def _answer(self, keys: Sequence[Key]) -> list[OnlineRow | None]:
        if self.hangs:
            await asyncio.sleep(60)
        if self.failure is not None:
            raise self.failure
        return [self.rows.get((group.name, key)) for group, key in keys]

    async def close(self) -> None: ...
