"""A reply of Redis is lost, duplicated, delayed or swapped: nobody gets another user's row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.errors import StoreError
from feature_repo.groups import all_groups
from feature_repo.online import OnlineRow
from feature_repo.online.redis_store import RedisStore
from serving.features.redis_row_source import RedisSource
from tests.support.redis_proxy import Fault, RedisProxy, double, drop

T = TypeVar("T")
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
USER, SESSION = all_groups()["user_profile"], all_groups()["session_profile"]
USERS = 40
SHIFTED = r"lost or duplicated|without a request|was lost|instead of a row|was closed"
pytestmark = pytest.mark.redis


@pytest.fixture
def port(redis_url: str) -> int:
    """URL of a Redis in which every row of a user or session names its owner."""
    store = RedisStore(redis_url)
    store.write(USER, [OnlineRow(f"u{n}", {"segment": f"u{n}"}, NOW) for n in range(USERS)])
    store.write(SESSION, [OnlineRow(f"u{n}", {"user_id": f"u{n}"}, NOW) for n in range(USERS)])
    store.close()
    return int(redis_url.rpartition(":")[2].partition("/")[0])


def behind(port: int, use: Callable[[RedisProxy, RedisSource], Awaitable[T]]) -> T:
    async def main() -> T:
        async with RedisProxy(port) as proxy:
            source = RedisSource(proxy.url, oldest_s=0.2)
            try:
                return await use(proxy, source)
            finally:
                await source.close()

    return asyncio.run(main())


async def rows_of(source: RedisSource, number: int, wait_s: float = 1.0) -> str:
    """Return ``right`` if the rows read for a user are its own, or else what came instead."""
    name = f"u{number}"
    try:
        async with asyncio.timeout(wait_s):
            user, session = await source.read([(USER, name), (SESSION, name)])
    except StoreError as error:
        return str(error)
    except TimeoutError:
        return "late"
    assert user is not None
    assert session is not None
    assert (user.key, user.values["segment"]) == (name, name), "another user's row"
    assert (session.key, session.values["user_id"]) == (name, name), "another user's row"
    return "right"


async def recovers(source: RedisSource) -> None:
    async with asyncio.timeout(5):
        while await rows_of(source, 7, 0.3) != "right":
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", [drop, double])
@pytest.mark.parametrize("which", range(3))
def test_one_reply_of_many_requests_under_way(port: int, fault: Fault, which: int) -> None:
    """Affect each of the three replies of a request: two rows and the marker."""

    async def use(proxy: RedisProxy, source: RedisSource) -> list[str]:
        assert await rows_of(source, 0) == "right"
        proxy.faults[proxy.seen + 30 + which] = fault
        outcomes = await asyncio.gather(*[rows_of(source, n) for n in range(USERS)])
        await recovers(source)
        assert proxy.opened == 2, "the connection was closed once"
        return outcomes

    outcomes = behind(port, use)
    assert outcomes.count("right") >= 10, "those before it"
    wrong = [o for o in outcomes if o != "right"]
    assert wrong, "the fault was met"
    for outcome in wrong:
        assert any(part in outcome for part in SHIFTED.split("|")), outcome


def test_a_lost_reply_that_nothing_follows(port: int) -> None:
    """Only the age of the request shows it; the next one gets a new connection."""

    async def use(proxy: RedisProxy, source: RedisSource) -> list[str]:
        assert await rows_of(source, 0) == "right"
        proxy.faults[proxy.seen + 2] = drop
        outcomes = [await rows_of(source, 1, 0.25), await rows_of(source, 2)]
        assert proxy.opened == 2
        return outcomes

    assert behind(port, use) == ["late", "right"]


def test_a_reply_that_is_late_is_still_that_of_its_request(port: int) -> None:
    async def use(proxy: RedisProxy, source: RedisSource) -> list[str]:
        assert await rows_of(source, 0) == "right"
        held = proxy.delays[proxy.seen + 1] = asyncio.Event()
        given_up = await rows_of(source, 1, 0.05)
        waiting = asyncio.gather(*[rows_of(source, n) for n in range(2, 10)])
        await asyncio.sleep(0)
        held.set()
        outcomes = [given_up, *await waiting]
        assert proxy.opened == 1, "the connection is still usable"
        return outcomes

    assert behind(port, use) == ["late", *["right"] * 8]


def test_one_lost_and_one_doubled_in_the_same_request(port: int) -> None:
    """Count and marker are right, but the rows belong to another group."""

    async def use(proxy: RedisProxy, source: RedisSource) -> str:
        assert await rows_of(source, 0) == "right"
        proxy.faults[proxy.seen], proxy.faults[proxy.seen + 1] = drop, double
        return await rows_of(source, 1)

    assert "instead of a row" in behind(port, use)


def test_all_replies_of_a_request_are_lost(port: int) -> None:
    """The replies of the next request have the right number and groups."""

    async def use(proxy: RedisProxy, source: RedisSource) -> list[str]:
        assert await rows_of(source, 0) == "right"
        proxy.faults = {proxy.seen + n: drop for n in range(3)}
        return list(await asyncio.gather(rows_of(source, 1), rows_of(source, 2), rows_of(source, 3)))

    assert all("lost or duplicated" in outcome for outcome in behind(port, use))


def test_a_doubled_reply_between_rows_of_one_group(port: int) -> None:
    async def use(proxy: RedisProxy, source: RedisSource) -> None:
        await source.read([(USER, "u0")])
        proxy.faults = {proxy.seen: double}
        with pytest.raises(StoreError, match="lost or duplicated"):
            await source.read([(USER, "u1"), (USER, "u2")])

    behind(port, use)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(3, 100), st.sampled_from([drop, double]), min_size=1, max_size=8))
def test_whatever_is_lost_or_doubled(port: int, faults: dict[int, Fault]) -> None:
    async def use(proxy: RedisProxy, source: RedisSource) -> None:
        assert await rows_of(source, 0) == "right"
        proxy.faults = dict(faults)
        for start in range(0, USERS, 8):
            await asyncio.gather(*[rows_of(source, n, 0.3) for n in range(start, start + 8)])
        proxy.faults = {}
        await recovers(source)

    behind(port, use)


@pytest.mark.parametrize("fault", [drop, double])
@pytest.mark.parametrize("which", range(3))
def test_the_blocking_store_notices_too(port: int, fault: Fault, which: int) -> None:
    """The rows that stream, parity and materialization read and check before they write."""

    def read(store: RedisStore, number: int) -> str:
        try:
            rows = store.read([(USER, f"u{number}"), (USER, f"u{number + 1}")])
        except StoreError:
            return "refused"
        assert [r and r.values["segment"] for r in rows] == [f"u{number}", f"u{number + 1}"]
        return "right"

    async def main() -> list[str]:
        async with RedisProxy(port) as proxy:
            store = RedisStore(proxy.url, timeout_s=0.3)
            assert await asyncio.to_thread(read, store, 0) == "right"
            proxy.faults[proxy.seen + which] = fault
            outcomes = [await asyncio.to_thread(read, store, n) for n in range(1, 5)]
            proxy.faults[proxy.seen + which] = fault
            older = OnlineRow("u1", {"segment": "old"}, NOW.replace(hour=11))
            newer = OnlineRow("u2", {"segment": "new"}, NOW.replace(hour=13))
            for _ in range(3):
                try:
                    written = await asyncio.to_thread(store.write, USER, [older, newer])
                    break
                except StoreError:
                    continue
            outcomes += [str(written)]
            store.close()
            return outcomes

    outcomes = asyncio.run(main())
    assert outcomes[1:4] == ["right"] * 3
    assert outcomes[0] == "refused" or (fault is double and which == 2)
    direct = RedisStore(f"redis://127.0.0.1:{port}/0")
    rows = direct.read([(USER, "u1"), (USER, "u2")])
    direct.close()
    assert [r and r.values["segment"] for r in rows] == ["u1", "new"], "an older row replaces nothing"
