"""Reads rows off the event loop. SQLite may block for hundreds of milliseconds."""

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
    """Reads rows without blocking the event loop."""

    def read(self, keys: Sequence[Key]) -> Coroutine[Any, Any, list[OnlineRow | None]]:
        """Read the rows of keys in one round trip, with `None` for absent ones.

        The request may be sent at the call, so a caller can do other work before awaiting. A source that
        caches rows returns the same object while a row is unchanged.

        Raises:
            StoreError: the store is unreachable or sends an invalid reply.
        """
        ...

    async def close(self) -> None:
        """Release the connection."""
        ...


class ThreadSource:
    """`RowSource` over a blocking store, with its own threads.

    A read still occupies its thread after its caller gave up. If too many reads wait, further ones are
    refused at once instead of being queued.
    """

    def __init__(self, store: OnlineStore, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store-read")
        self._max_waiting = max_waiting
        self._waiting = 0

    def read(self, keys: Sequence[Key]) -> Coroutine[Any, Any, list[OnlineRow | None]]:
        """See `RowSource.read`. A thread starts at the call."""
        if self._waiting >= self._max_waiting:
            msg = f"online store: {self._waiting} reads are already waiting; the store is too slow"
            raise StoreError(msg)
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._waiting += 1
        return self._rows(self._pool.submit(self._read, keys, loop, answer), answer)

    async def _rows(self, under_way: Future[None], answer: Answer) -> list[OnlineRow | None]:
        try:
            return await answer
        except asyncio.CancelledError:
            if under_way.cancel():  # it never started
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
        """Shut down without waiting; threads end with their current read."""
        self._pool.shutdown(wait=False, cancel_futures=True)
