"""Where rows come from off the event loop; SQLite's reads, which may block for hundreds of milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online.store import OnlineRow, OnlineStore

Key: TypeAlias = tuple[FeatureGroup, str]
THREADS = 4
MAX_WAITING = 64


class RowSource(Protocol):
    """Where rows come from, without blocking the event loop."""

    def read(self, keys: Sequence[Key]) -> Coroutine[Any, Any, list[OnlineRow | None]]:
        """The rows of keys in one round trip, `None` where absent.

        A store may be asked at the call already: a caller with something else to do does it before awaiting.
        A row that stands as it stood is the same object as before, where the source remembers it.

        Raises:
            StoreError: the store is unreachable or answers garbage.
        """
        ...

    async def close(self) -> None:
        """Release the connection."""
        ...


class ThreadSource:
    """`RowSource` over a blocking store, in a few threads of its own.

    A read that its caller gave up on still holds its thread; once too many wait, further ones are refused at
    once instead of queueing behind them.
    """

    def __init__(self, store: OnlineStore, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store-read")
        self._max_waiting = max_waiting
        self._waiting = 0

    async def read(self, keys: Sequence[Key]) -> list[OnlineRow | None]:
        """See `RowSource.read`."""
        if self._waiting >= self._max_waiting:
            msg = f"online store: {self._waiting} reads are waiting already; the store is too slow"
            raise StoreError(msg)
        self._waiting += 1
        future = self._pool.submit(self._store.read, keys)
        loop = asyncio.get_running_loop()
        # Counted down when the thread is done, not when the caller stops waiting.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._waiting -= 1

    async def close(self) -> None:
        """Wait for no one: threads end when their read does."""
        self._pool.shutdown(wait=False, cancel_futures=True)
