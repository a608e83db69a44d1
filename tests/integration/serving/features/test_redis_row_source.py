"""Rows from a real Redis over the multiplexed connection, also when Redis misbehaves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
import redis

from feature_repo.errors import SettingsError, StoreError
from feature_repo.groups import all_groups
from feature_repo.online import OnlineRow
from feature_repo.online.redis_store import RedisStore
from serving.features.redis_row_source import MAX_WAITING, RedisSource

T = TypeVar("T")
NOW = datetime(2024, 6, 1, 12, 0, 0, 250_000, UTC)
USER, SESSION = all_groups()["user_profile"], all_groups()["session_profile"]
pytestmark = pytest.mark.redis


def with_source(url: str, use: Callable[[RedisSource], Awaitable[T]]) -> T:
    async def main() -> T:
        source = RedisSource(url)
        try:
            return await use(source)
        finally:
            await source.close()

    return asyncio.run(main())


def fill(url: str) -> RedisStore:
    store = RedisStore(url)
    store.write(USER, [OnlineRow("u", {"segment": "a", "attr_keys": ["x:1"], "attr_clicks": [2.5]}, NOW)])
    store.write(SESSION, [OnlineRow("s", {"item_ids": ["i1"], "event_count": 3, "started_at": NOW}, NOW)])
    return store


def test_rows_are_those_of_the_blocking_store(redis_url: str) -> None:
    store = fill(redis_url)
    keys = [(USER, "u"), (SESSION, "s"), (USER, "nobody"), (SESSION, "u")]
    assert with_source(redis_url, lambda s: s.read(keys)) == store.read(keys)
    store.close()


def test_requests_under_way_together_each_get_their_rows(redis_url: str) -> None:
    store = RedisStore(redis_url)
    store.write(USER, [OnlineRow(f"u{n}", {"segment": str(n)}, NOW) for n in range(200)])

    async def use(source: RedisSource) -> list[list[OnlineRow | None]]:
        return await asyncio.gather(
            *[source.read([(USER, f"u{n}"), (USER, f"u{n + 1}")]) for n in range(199)]
        )

    for number, rows in enumerate(with_source(redis_url, use)):
        assert [r and r.values["segment"] for r in rows] == [str(number), str(number + 1)]
    store.close()


def test_a_request_given_up_does_not_shift_the_replies_of_others(redis_url: str) -> None:
    fill(redis_url).close()

    async def use(source: RedisSource) -> OnlineRow | None:
        await source.read([(USER, "u")])
        given_up = asyncio.ensure_future(source.read([(SESSION, "s")]))
        await asyncio.sleep(0)
        given_up.cancel()
        return (await source.read([(USER, "u")]))[0]

    row = with_source(redis_url, use)
    assert row is not None
    assert row.values["segment"] == "a"


def test_password_and_database_of_the_url(own_redis: Any) -> None:
    admin = redis.Redis.from_url(own_redis.url)
    admin.config_set("requirepass", "hush")
    url = f"redis://:hush@127.0.0.1:{own_redis.port}/3"
    fill(url).close()
    rows = with_source(url, lambda s: s.read([(USER, "u")]))
    assert rows[0] is not None
    with pytest.raises(StoreError, match="refused the connection"):
        with_source(f"redis://:wrong@127.0.0.1:{own_redis.port}/3", lambda s: s.read([(USER, "u")]))
    admin.close()


def test_a_url_that_is_none_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="HEADRACE_REDIS_URL"):
        RedisSource("http://here")


def test_a_redis_that_is_gone_and_comes_back(own_redis: Any) -> None:
    fill(own_redis.url).close()

    async def use(source: RedisSource) -> OnlineRow | None:
        await source.read([(USER, "u")])
        own_redis.stop()
        for _ in range(3):
            with pytest.raises(StoreError, match=r"lost|cannot be reached"):
                await source.read([(USER, "u")])
        own_redis.start()
        fill(own_redis.url).close()
        return (await source.read([(USER, "u")]))[0]

    assert with_source(own_redis.url, use) is not None


def test_a_paused_redis_holds_nobody_longer_than_asked_and_is_not_asked_without_end(own_redis: Any) -> None:
    fill(own_redis.url).close()

    async def outcome(source: RedisSource) -> str:
        try:
            async with asyncio.timeout(0.001):
                await source.read([(USER, "u")])
        except (TimeoutError, StoreError) as error:
            return str(error) or "late"
        return "served"

    async def use(source: RedisSource) -> None:
        await source.read([(USER, "u")])
        own_redis.signal(signal.SIGSTOP)
        try:
            outcomes = [await outcome(source) for _ in range(MAX_WAITING + 5)]
        finally:
            own_redis.signal(signal.SIGCONT)
        assert outcomes[:MAX_WAITING] == ["late"] * MAX_WAITING
        assert all("too slow" in o for o in outcomes[MAX_WAITING:])
        async with asyncio.timeout(10):
            while await outcome(source) != "served":
                await asyncio.sleep(0.005)

    with_source(own_redis.url, use)


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1\r\n$-7\r\n", b":1\r\n", b"+OK\r\n"]
)
def test_garbage_is_a_store_error(garbage: bytes) -> None:
    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(garbage)
            await writer.drain()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        source = RedisSource(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(StoreError, match=r"invalid reply|instead of a row|damaged"):
            await source.read([(USER, "u")])
        await source.close()
        server.close()
        await asyncio.sleep(0.02)

    asyncio.run(main())


def test_a_key_of_another_type_is_a_store_error(redis_url: str) -> None:
    from feature_repo.online import redis_key

    client = redis.Redis.from_url(redis_url)
    client.set(redis_key("user_id", "u"), "not a hash")
    client.close()
    with pytest.raises(StoreError, match="WRONGTYPE"):
        with_source(redis_url, lambda s: s.read([(USER, "u")]))


def test_a_value_that_is_damaged_is_a_store_error(redis_url: str) -> None:
    fill(redis_url).close()
    client = redis.Redis.from_url(redis_url)
    (key,) = [k for k in client.scan_iter() if b"user_id" in k]
    for field in client.hkeys(key):
        if not field.startswith(b"_ts"):
            client.hset(key, field, b"\xff\xff")
    client.close()
    with pytest.raises(StoreError, match="tag"):
        with_source(redis_url, lambda s: s.read([(USER, "u")]))


def test_a_row_is_decoded_anew_only_where_the_store_holds_another(redis_url: str) -> None:
    store = fill(redis_url)

    async def use(source: RedisSource) -> None:
        keys = [(USER, "u"), (SESSION, "s")]
        first, again = await source.read(keys), await source.read(keys)
        assert [a is b for a, b in zip(first, again, strict=True)] == [True, True]
        later = NOW + timedelta(seconds=1)
        store.write(USER, [OnlineRow("u", {"segment": "b"}, NOW)])
        store.write(
            SESSION, [OnlineRow("s", {"item_ids": ["i1"], "event_count": 3, "started_at": NOW}, later)]
        )
        user, session = await source.read(keys)
        assert user is not None
        assert session is not None
        assert (user.values["segment"], user.values["attr_keys"]) == ("b", None)
        assert (session.event_time, session.values["item_ids"]) == (later, ["i1"])
        assert first == again, "rows returned before do not change"

    with_source(redis_url, use)
    store.close()


@pytest.mark.parametrize("remembered", [0, 3])
def test_the_memory_of_rows_is_bounded(redis_url: str, remembered: int) -> None:
    store = RedisStore(redis_url)
    store.write(USER, [OnlineRow(f"u{n}", {"segment": str(n)}, NOW) for n in range(10)])

    async def main() -> int:
        source = RedisSource(redis_url, remembered=remembered)
        for _ in range(2):
            rows = await source.read([(USER, f"u{n}") for n in range(10)])
            assert [row and row.values["segment"] for row in rows] == [str(n) for n in range(10)]
        await source.close()
        return len(source._plan(USER)._kept._rows)

    assert asyncio.run(main()) <= remembered
    store.close()


def test_redis_is_asked_at_the_call_and_a_reading_that_nobody_awaits_harms_no_other(redis_url: str) -> None:
    fill(redis_url).close()

    async def use(source: RedisSource) -> None:
        await source.read([(USER, "u")])
        abandoned = source.read([(USER, "u")])
        assert source._link is not None
        assert source._link.waiting == 1
        abandoned.close()
        (row,) = await source.read([(SESSION, "s")])
        assert row is not None
        assert (row.key, row.values["item_ids"], source._link.waiting) == ("s", ["i1"], 0)

    with_source(redis_url, use)


def test_an_unreachable_address_names_it() -> None:
    with pytest.raises(StoreError, match=r"Redis at 127.0.0.1:1 cannot be reached"):
        with_source("redis://127.0.0.1:1/0", lambda s: s.read([(USER, "u")]))


class _Silent:
    """A silent server that counts connections, opened and closed by the client."""

    def __init__(self) -> None:
        self.opened = self.closed = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        while await reader.read(1000):
            pass
        writer.close()
        await writer.wait_closed()
        self.closed += 1


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def _late(source: RedisSource) -> None:
    with pytest.raises((TimeoutError, StoreError)):
        async with asyncio.timeout(0.02):
            await source.read([(USER, "u")])


def test_a_connection_that_says_nothing_is_given_up() -> None:
    async def main() -> None:
        silent = _Silent()
        server = await asyncio.start_server(silent.talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        source = RedisSource(f"redis://127.0.0.1:{port}/0", oldest_s=0.01)
        await _late(source)
        await _late(source)
        await _until(lambda: silent.opened >= 2 and silent.closed >= 1)
        # The first connection is closed while the second is open, so it was not closed with the source.
        assert (silent.opened, silent.closed) == (2, 1)
        await source.close()
        await _until(lambda: silent.closed == silent.opened)
        assert silent.opened == 2
        server.close()

    asyncio.run(main())


def test_a_connection_whose_greeting_is_not_answered_is_closed() -> None:
    async def main() -> None:
        silent = _Silent()
        server = await asyncio.start_server(silent.talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        source = RedisSource(f"redis://:secret@127.0.0.1:{port}/0", connect_timeout_s=0.05)
        with pytest.raises(StoreError, match="cannot be reached"):
            await source.read([(USER, "u")])
        await _until(lambda: silent.closed == 1)
        assert silent.opened == 1
        await source.close()
        server.close()

    asyncio.run(main())
