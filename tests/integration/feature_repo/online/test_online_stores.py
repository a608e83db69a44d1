"""Both online stores by one set of tests: monotone writes, reads, deletion, marks, threads, errors."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feature_repo.errors import SettingsError, StoreError
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.online import EncodedRow, OnlineRow, OnlineStore, layout_of, online_path, open_store
from feature_repo.online.redis_store import RedisStore
from feature_repo.online.sqlite_store import SqliteStore
from feature_repo.settings import Settings
from tests.conftest import RedisServer, free_port

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("zone")]

USER, SESSION, RECENT = (all_groups()[n] for n in ("user_profile", "session_profile", "user_recent"))
T0 = datetime(2024, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC)
Tick = timedelta(microseconds=1)


@pytest.fixture(params=["redis", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Callable[[], OnlineStore]:
    if request.param == "redis":
        return lambda: RedisStore(redis_url)
    return lambda: SqliteStore(str(tmp_path / "feast" / "online.db"))


@pytest.fixture
def store(make_store: Callable[[], OnlineStore]) -> Iterator[OnlineStore]:
    opened = make_store()
    yield opened
    opened.close()


def row(key: str, events: int, at: datetime = T0) -> OnlineRow:
    return OnlineRow(key, {"event_count": events, "item_ids": ["a", "b"], "started_at": T0}, at)


def events_of(store: OnlineStore, *keys: str, group: FeatureGroup = SESSION) -> list[Any]:
    return [None if r is None else r.values["event_count"] for r in store.read([(group, k) for k in keys])]


def test_an_older_row_is_left_out_an_equal_one_replaces(store: OnlineStore) -> None:
    assert store.write(SESSION, [row("a", 1)]) == 1
    assert store.write(SESSION, [row("a", 2, T0 - Tick)]) == 0
    assert events_of(store, "a") == [1]
    assert store.write(SESSION, [row("a", 3, T0)]) == 1
    assert store.write(SESSION, [row("a", 4, T0 + Tick)]) == 1
    assert events_of(store, "a") == [4]
    [found] = store.read([(SESSION, "a")])
    assert found is not None
    assert found.event_time == T0 + Tick


def test_of_one_key_twice_in_a_batch_the_newest_wins(store: OnlineStore) -> None:
    assert store.write(SESSION, [row("a", 2, T0 + Tick), row("a", 1), row("b", 5), row("b", 6)]) == 2
    assert events_of(store, "a", "b") == [2, 6]


def test_a_keys_only_writer_may_skip_the_check(store: OnlineStore) -> None:
    store.write(SESSION, [row("a", 9, T0)])
    raws = layout_of(SESSION).encode({"event_count": 1})
    assert store.write_encoded(SESSION, [EncodedRow("a", 0, raws)], check=False) == 1
    assert events_of(store, "a") == [1]


def test_what_was_not_written_reads_as_none(store: OnlineStore) -> None:
    store.write(SESSION, [row("a", 1)])
    found = store.read([(USER, "nobody"), (SESSION, "a"), (SESSION, "nobody")])
    assert [r is None for r in found] == [True, False, True]
    assert found[1] is not None
    assert found[1].values["mean_price"] is None
    assert found[1].values["queries"] is None
    assert found[1].values["started_at"] == T0.replace(microsecond=0)
    assert store.read([]) == []


def test_groups_of_one_entity_do_not_disturb_each_other(store: OnlineStore) -> None:
    store.write(USER, [OnlineRow("u", {"segment": "s"}, T0)])
    store.write(RECENT, [OnlineRow("u", {"event_count": 3}, T0 - Tick)])
    assert store.delete(RECENT, ["u", "nobody"]) == 1
    user, recent = store.read([(USER, "u"), (RECENT, "u")])
    assert recent is None
    assert user is not None
    assert user.values["segment"] == "s"


def test_a_deleted_key_may_be_written_with_an_older_time(store: OnlineStore) -> None:
    store.write(SESSION, [row("a", 5)])
    store.delete(SESSION, ["a"])
    assert store.write(SESSION, [row("a", 1, T0 - timedelta(days=1))]) == 1
    assert events_of(store, "a") == [1]


def test_thousands_of_rows_in_one_call(store: OnlineStore) -> None:
    many = [row(f"k{n}", n) for n in range(4500)]
    assert store.write(SESSION, many) == 4500
    assert events_of(store, *(f"k{n}" for n in range(4500))) == list(range(4500))


def test_a_very_long_value_survives(store: OnlineStore) -> None:
    queries = ["q" * 1000 for _ in range(20)]
    store.write(SESSION, [OnlineRow("a", {"queries": queries}, T0), row("b", 1)])
    [found, _] = store.read([(SESSION, "a"), (SESSION, "b")])
    assert found is not None
    assert found.values["queries"] == queries
    assert events_of(store, "b") == [1]


def test_an_unknown_feature_is_refused(store: OnlineStore) -> None:
    with pytest.raises(KeyError, match="'colour' is no feature of headrace_session_profile"):
        store.write(SESSION, [OnlineRow("a", {"colour": "red"}, T0)])


def test_marks_are_kept_by_name_and_prefix(store: OnlineStore) -> None:
    assert store.marks() == {}
    store.put_marks({})
    store.put_marks({"heartbeat/0": b"1", "canary/0": b"\xff\x00"})
    store.put_marks({"heartbeat/0": b"2"})
    assert store.marks("heartbeat/") == {"heartbeat/0": b"2"}
    assert store.marks() == {"heartbeat/0": b"2", "canary/0": b"\xff\x00"}


def test_two_writers_and_a_reader_at_once(make_store: Callable[[], OnlineStore]) -> None:
    shared, errors = make_store(), list[BaseException]()

    def write(prefix: str) -> None:
        try:
            for n in range(30):
                shared.write(SESSION, [row(f"{prefix}{k}", n, T0 + n * Tick) for k in range(20)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(p,)) for p in "ab"]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads):
        for found in shared.read([(SESSION, "a1"), (SESSION, "b1")]):
            assert found is None or found.values["item_ids"] == ["a", "b"]
    for thread in threads:
        thread.join()
    assert errors == []
    assert events_of(shared, "a19", "b19") == [29, 29]
    shared.close()


def test_the_settings_choose_the_store(home: Home, redis_url: str) -> None:
    embedded = open_store(Settings(home=home.root), home)
    embedded.write(SESSION, [row("a", 1)])
    assert Path(online_path(home)).exists()
    embedded.close()
    on_redis = open_store(Settings(home=home.root, online_store="redis", redis_url=redis_url), home)  # type: ignore[arg-type]
    assert events_of(on_redis, "a") == [None]
    on_redis.close()


def test_an_absent_redis_is_a_store_error_that_names_it_and_no_password() -> None:
    port = free_port()
    store = RedisStore(f"redis://:secret@127.0.0.1:{port}/0", 0.2)
    for call in (
        lambda: store.write(SESSION, [row("a", 1)]),
        lambda: store.read([(SESSION, "a")]),
        lambda: store.delete(SESSION, ["a"]),
        lambda: store.put_marks({"a": b"1"}),
        store.marks,
    ):
        with pytest.raises(
            StoreError, match=f"Redis at 127.0.0.1:{port} failed .*HEADRACE_REDIS_URL"
        ) as caught:
            call()
        assert "secret" not in str(caught.value)
    store.close()


def test_a_redis_that_hangs_is_given_up_and_used_again_later(own_redis: RedisServer) -> None:
    import signal

    store = RedisStore(own_redis.url, 0.2)
    store.write(SESSION, [row("a", 1)])
    own_redis.signal(signal.SIGSTOP)
    with pytest.raises(StoreError, match="Timeout"):
        store.write(SESSION, [row("b", 2)])
    own_redis.signal(signal.SIGCONT)
    store.write(SESSION, [row("c", 3)])
    assert events_of(store, "a", "c") == [1, 3]
    store.close()


def test_an_answer_that_is_an_error_is_a_store_error(redis_url: str) -> None:
    import redis

    from feature_repo.online import redis_key

    redis.Redis.from_url(redis_url).set(redis_key("session_id", "a"), "no hash")
    store = RedisStore(redis_url)
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.write(SESSION, [row("a", 1)])
    store.write(SESSION, [row("b", 1)])
    assert events_of(store, "b") == [1]
    store.close()


def test_a_bad_redis_url_names_the_variable() -> None:
    with pytest.raises(
        SettingsError, match=r"HEADRACE_REDIS_URL: .*write e\.g\. redis://127\.0\.0\.1:6379/0"
    ):
        RedisStore("http://localhost")


def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(StoreError, match=r"online\.db: file is not a database; is HEADRACE_HOME writable"):
        SqliteStore(str(path)).read([(SESSION, "a")])


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "feast").write_text("a file")
    with pytest.raises(StoreError, match="is HEADRACE_HOME writable"):
        SqliteStore(str(tmp_path / "feast" / "online.db")).write(SESSION, [row("a", 1)])


def test_a_table_made_by_another_process_is_seen(tmp_path: Path) -> None:
    path = str(tmp_path / "online.db")
    reader, writer = SqliteStore(path), SqliteStore(path)
    writer.write(USER, [OnlineRow("u", {"segment": "s"}, T0)])
    wanted = [(SESSION, "a"), (USER, "u")]
    for _ in range(3):
        assert [found is not None for found in reader.read(wanted)] == [False, True]
    writer.write(SESSION, [row("a", 1)])
    assert [found is not None for found in reader.read(wanted)] == [True, True]
    reader.close()
    writer.close()


def test_a_remembered_row_is_the_same_until_it_is_written(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "online.db"), remembered=10)
    store.write(SESSION, [row("a", 1), row("b", 1)])
    first, other = store.read([(SESSION, "a"), (SESSION, "b")])
    store.write(SESSION, [row("b", 2, T0)])
    again, changed = store.read([(SESSION, "a"), (SESSION, "b")])
    assert again is first
    assert other is not None
    assert changed is not None
    assert (other.values["event_count"], changed.values["event_count"]) == (1, 2)
    store.delete(SESSION, ["a"])
    assert store.read([(SESSION, "a")]) == [None]
    store.close()


def test_a_read_holds_no_writer_up(tmp_path: Path) -> None:
    path = str(tmp_path / "online.db")
    reader, writer = SqliteStore(path, timeout_s=0.0), SqliteStore(path, timeout_s=0.0)
    writer.write(SESSION, [row("a", 1)])
    reader.read([(SESSION, "a")])
    assert writer.write(SESSION, [row("a", 2)]) == 1
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE "headrace_user_profile" (entity_key BLOB)')
    connection.close()
    with pytest.raises(StoreError, match="no such column"):
        reader.read([(USER, "u")])
    assert writer.write(SESSION, [row("a", 3)]) == 1, "a read that failed lets go too"
    reader.close()
    writer.close()
