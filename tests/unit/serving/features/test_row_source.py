"""A blocking store in threads: the event loop continues, and a slow store refuses further reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence

import pytest

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online.rows import OnlineRow
from serving.features.row_source import ThreadSource


class SlowStore:
    """A store whose reads wait for a gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.threads: set[int] = set()

    def read(self, requests: Sequence[tuple[FeatureGroup, str]]) -> list[OnlineRow | None]:
        self.threads.add(threading.get_ident())
        self.gate.wait(20)
        return [None] * len(requests)

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        raise NotImplementedError

    def delete(self, group: FeatureGroup, keys: Iterable[str]) -> int:
        raise NotImplementedError

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        raise NotImplementedError

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        raise NotImplementedError

    def close(self) -> None: ...


def test_reads_happen_in_other_threads() -> None:
    store = SlowStore()
    store.gate.set()

    async def main() -> list[OnlineRow | None]:
        source = ThreadSource(store)
        rows = await source.read([])
        await source.close()
        return rows

    assert asyncio.run(main()) == []
    assert threading.get_ident() not in store.threads


def test_too_many_waiting_reads_are_refused_until_the_store_is_back() -> None:
    store = SlowStore()

    async def main() -> None:
        source = ThreadSource(store, threads=1, max_waiting=3)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.read([]), 0.01)
        # One read is running; cancelled ones that never started do not count.
        with pytest.raises((TimeoutError, StoreError)):
            await asyncio.wait_for(source.read([]), 0.01)
        store.gate.set()
        assert await asyncio.wait_for(source.read([]), 10) == []
        await source.close()

    asyncio.run(main())


def test_a_full_queue_refuses_at_once() -> None:
    store = SlowStore()

    async def main() -> None:
        source = ThreadSource(store, threads=2, max_waiting=2)
        waiting = [asyncio.ensure_future(source.read([])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="2 reads are already waiting"):
            await source.read([])
        store.gate.set()
        await asyncio.gather(*waiting)
        assert await source.read([]) == []
        await source.close()

    asyncio.run(main())
