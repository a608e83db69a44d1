"""Where rows come from off the event loop; SQLite's reads, which may block for hundreds of milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online.rows import OnlineRow
from feature_repo.online.store import OnlineStore

Key: TypeAlias = tuple[FeatureGroup, str]
Answer: TypeAlias = asyncio.Future[list[OnlineRow | None]]
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

    def read(self, keys: Sequence[Key]) -> Coroutine[Any, Any, list[OnlineRow | None]]:
        """See `RowSource.read`: a thread begins at the call."""
        if self._waiting >= self._max_waiting:
            msg = f"online store: {self._waiting} reads are waiting already; the store is too slow"
            raise StoreError(msg)
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._waiting += 1
        return self._rows(self._pool.submit(self._read, keys, loop, answer), answer)

    async def _rows(self, under_way: Future[None], answer: Answer) -> list[OnlineRow | None]:
        try:
            return await answer
        except asyncio.CancelledError:
            if under_way.cancel():  # what never began holds no place
                self._waiting -= 1
            raise

    def _read(self, keys: Sequence[Key], loop: asyncio.AbstractEventLoop, answer: Answer) -> None:
        rows: list[OnlineRow | None] | BaseException
        try:
            rows = self._store.read(keys)
        except BaseException as error:
            rows = error
        with suppress(RuntimeError):  # the loop ended meanwhile
            loop.call_soon_threadsafe(self._done, answer, rows)

    def _done(self, answer: Answer, rows: list[OnlineRow | None] | BaseException) -> None:
        self._waiting -= 1  # when the thread is done, not when the caller stops waiting
        if answer.done():
            return
        if isinstance(rows, BaseException):
            answer.set_exception(rows)
        else:
            answer.set_result(rows)

    async def close(self) -> None:
        """Wait for no one: threads end when their read does."""
        self._pool.shutdown(wait=False, cancel_futures=True)
