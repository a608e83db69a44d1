"""The online writer: order, retries with back-off, what it asks the store, and its thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.groups.session_profile import GROUP
from feature_repo.online import EncodedRow, OnlineRow
from streaming.dataflow import store_writer as writer_module
from streaming.dataflow.store_writer import BackgroundWriter, OnlineWriter, WriteJob
from streaming.sessions.heartbeat import Heartbeat, mark_of, read_heartbeats, stream_lag_s

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


class FakeStore:
    """Remembers calls; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failures = failures
        self.held: dict[str, bytes] = {}

    def _may_fail(self) -> None:
        if self.failures:
            self.failures -= 1
            message = "store gone"
            raise StoreError(message)

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        raise NotImplementedError

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        self._may_fail()
        self.calls.append(("write", [row.key for row in rows], check))
        return len(rows)

    def read(self, requests: Sequence[tuple[FeatureGroup, str]]) -> list[OnlineRow | None]:
        raise NotImplementedError

    def delete(self, group: FeatureGroup, keys: Iterable[str]) -> int:
        self._may_fail()
        self.calls.append(("delete", list(keys)))
        return 0

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        self._may_fail()
        self.calls.append(("marks", list(marks)))
        self.held |= marks

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        return {k: v for k, v in self.held.items() if k.startswith(prefix)}

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(writer_module, "LONGEST_WAIT_S", 0.002)


def job(*keys: str, deleted: Sequence[str] = (), heartbeat: Heartbeat | None = None) -> WriteJob:
    return WriteJob(0, GROUP, [EncodedRow(key, 1, ()) for key in keys], deleted, heartbeat)


def test_deletions_rows_heartbeats_in_that_order() -> None:
    store = FakeStore()
    OnlineWriter(store, threading.Event()).write(
        [job("a", deleted=["b"], heartbeat=Heartbeat(0, NOW, NOW)), job("c")]
    )
    assert store.calls == [
        ("delete", ["b"]),
        ("write", ["a", "c"], True),
        ("marks", [mark_of(0)]),
    ]


def test_a_key_is_checked_at_its_first_write_and_after_a_deletion() -> None:
    store = FakeStore()
    writer = OnlineWriter(store, threading.Event())
    writer.write([job("a", "b")])
    writer.write([job("a", "c")])
    writer.write([job(deleted=["a"])])
    writer.write([job("a")])
    assert store.calls == [
        ("write", ["a", "b"], True),
        ("write", ["c"], True),
        ("write", ["a"], False),
        ("delete", ["a"]),
        ("write", ["a"], True),
    ]


def test_a_deletion_between_two_writes_of_a_key_keeps_its_place() -> None:
    store = FakeStore()
    OnlineWriter(store, threading.Event()).write([job("a", "b"), job("a", deleted=["a"]), job("b")])
    assert store.calls == [
        ("write", ["a", "b"], True),
        ("delete", ["a"]),
        ("write", ["a"], True),
        ("write", ["b"], False),
    ]


def test_of_one_key_in_several_jobs_the_last_is_written() -> None:
    class Keeping(FakeStore):
        def write_encoded(self, group: Any, rows: Any, *, check: bool = True) -> int:
            self.calls += [(row.key, row.micros) for row in rows]
            return len(rows)

    store = Keeping()
    jobs = [WriteJob(n, GROUP, [EncodedRow("a", n, ())]) for n in range(3)]
    writer = OnlineWriter(store, threading.Event())
    writer.write(jobs)
    assert store.calls == [("a", 2)]
    assert writer.written == {0: 1, 1: 1, 2: 1}


def test_what_a_writer_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "KNOWN_KEYS", 2)
    store = FakeStore()
    writer = OnlineWriter(store, threading.Event())
    for key in ("a", "b", "c", "d"):
        writer.write([job(key)])
    writer.write([job("a")])
    assert store.calls[-1] == ("write", ["a"], True)


def test_a_store_that_comes_back_gets_every_row_once(caplog: pytest.LogCaptureFixture) -> None:
    store, retried = FakeStore(failures=7), list[int]()
    writer = OnlineWriter(store, threading.Event(), retried.append)
    writer.write([job("a"), job("b")])
    assert [c[1] for c in store.calls] == [["a", "b"]]
    assert retried == [0] * 7
    assert writer.retries == {0: 7}
    assert caplog.text.count("store gone") == 1
    assert writer.written == {0: 2}


def test_stopping_ends_the_waiting_and_says_why() -> None:
    store, stop = FakeStore(failures=10**6), threading.Event()
    writer = OnlineWriter(store, stop, lambda partition: stop.set())
    with pytest.raises(StoreError, match="store gone"):
        writer.write([job("a")])


def test_errors_of_our_own_are_not_retried() -> None:
    class Broken(FakeStore):
        def write_encoded(self, group: Any, rows: Any, *, check: bool = True) -> int:
            message = "bug"
            raise TypeError(message)

    with pytest.raises(TypeError, match="bug"):
        OnlineWriter(Broken(), threading.Event()).write([job("a")])


def test_flush_waits_for_what_was_handed_over() -> None:
    store = FakeStore(failures=5)
    writer = BackgroundWriter(OnlineWriter(store, threading.Event()))
    for n in range(20):
        writer.write([job(f"k{n}")])
    writer.flush()
    assert [key for call in store.calls for key in call[1]] == [f"k{n}" for n in range(20)]
    writer.close()


def test_the_flow_waits_while_many_rows_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "PENDING_ROWS", 4)
    answer, asked = threading.Event(), threading.Event()

    class Slow(FakeStore):
        def write_encoded(self, group: Any, rows: Any, *, check: bool = True) -> int:
            asked.set()
            assert answer.wait(10)
            return super().write_encoded(group, rows, check=check)

    store = Slow()
    writer = BackgroundWriter(OnlineWriter(store, threading.Event()))
    handed: list[int] = []

    def hand_over() -> None:
        for n in range(6):
            writer.write([job(f"a{n}", f"b{n}")])
            handed.append(n)

    flow = threading.Thread(target=hand_over)
    flow.start()
    assert asked.wait(10)
    flow.join(0.2)
    assert flow.is_alive()
    assert handed == [0, 1]
    answer.set()
    flow.join(10)
    writer.flush()
    assert sorted(key for call in store.calls for key in call[1]) == [
        f"{x}{n}" for x in "ab" for n in range(6)
    ]
    writer.close()


def test_a_write_given_up_surfaces_at_flush_and_at_the_next_write() -> None:
    stop = threading.Event()
    writer = BackgroundWriter(OnlineWriter(FakeStore(failures=10**6), stop, lambda partition: stop.set()))
    writer.write([job("a")])
    with pytest.raises(StoreError):
        writer.flush()
    with pytest.raises(StoreError):
        writer.write([job("b")])
    writer.close()


def test_heartbeats_hold_what_was_written_and_read_back() -> None:
    store = FakeStore()
    writer = OnlineWriter(store, threading.Event())
    writer.write([job("a", "b", heartbeat=Heartbeat(0, None, NOW, behind_s=2.5))])
    [found] = read_heartbeats(store)
    assert (found.counts.written, found.last_event_time, found.behind_s) == (2, None, 2.5)
    assert found.event_lag_s() is None
    assert stream_lag_s([found], NOW) == 2.5
    assert stream_lag_s([]) is None


def test_a_damaged_heartbeat_says_what_to_do() -> None:
    store = FakeStore()
    store.held = {mark_of(3): b"{"}
    with pytest.raises(StoreError, match=r"'heartbeat/0003' is no heartbeat .*restart the stream"):
        read_heartbeats(store)


def test_a_row_refused_as_older_is_checked_again_the_next_time() -> None:
    """A log read again from its start brings older rows; none may go over a newer one unasked."""

    class Newer(FakeStore):
        def write_encoded(self, group: Any, rows: Any, *, check: bool = True) -> int:
            super().write_encoded(group, rows, check=check)
            return 0 if check else len(rows)

    store = Newer()
    writer = OnlineWriter(store, threading.Event())
    writer.write([job("a")])
    writer.write([job("a")])
    assert store.calls == [("write", ["a"], True)] * 2


def test_rows_are_told_once_they_are_in_the_store() -> None:
    told: list[tuple[int, int]] = []
    stop, store = threading.Event(), FakeStore()
    OnlineWriter(store, stop, wrote=lambda *given: told.append(given)).write([job("a", "b"), job()])
    assert told == [(0, 2)]
    gone = OnlineWriter(
        FakeStore(failures=10**6), stop, retried=lambda _: stop.set(), wrote=lambda *given: told.append(given)
    )
    with pytest.raises(StoreError):
        gone.write([job("c")])
    assert told == [(0, 2)]
    assert gone.written == {}


def test_the_heartbeat_tells_how_often_a_write_was_repeated() -> None:
    store = FakeStore(failures=3)
    OnlineWriter(store, threading.Event()).write([job("a", heartbeat=Heartbeat(0, None, NOW))])
    [found] = read_heartbeats(store)
    assert (found.counts.written, found.counts.retries) == (1, 3)
