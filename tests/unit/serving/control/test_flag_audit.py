"""The audit log and the flags file never disagree: a change is one write, its line in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from serving.control import versions
from serving.control.flag_control import RETRY_S, FlagControl
from serving.control.flag_store import FlagStore
from serving.control.flags import Flags, encode_flags
from serving.control.reserve import RESERVED_BYTES, Reserve
from serving.control.versions import NotStoredError


@pytest.fixture
def store(tmp_path: Path, clock: Callable[[], datetime]) -> FlagStore:
    made = FlagStore(tmp_path / "flags", clock)
    made.change({"holdout": 0.2}, "ann")
    return made


def other(store: FlagStore) -> FlagStore:
    """Another process."""
    return FlagStore(store.root, store._clock)


def fail(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_crash_before_the_file_was_written_leaves_the_change_in_force(
    store: FlagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(versions, "write_file", crash)
        with pytest.raises(KeyboardInterrupt):
            store.change({"personalization": False}, "bob")
    after = Flags(holdout=0.2, personalization=False)
    assert b'"personalization": true' in store.path.read_bytes()
    reader = other(store)
    assert reader.load() == reader.last_good() == after
    assert [c.who for c in reader.history()] == ["ann", "bob"]
    assert reader.load() == after
    assert store.path.read_bytes() == encode_flags(after), "the file follows"
    assert [c.who for c in reader.history()] == ["ann", "bob"], "which is no edit"


def test_a_file_that_cannot_be_written_does_not_undo_the_change(
    store: FlagStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(versions, "write_file", fail)
    with caplog.at_level(logging.ERROR):
        after = store.change({"personalization": False}, "bob")
    assert "flags.json cannot be written" in caplog.text
    assert other(store).load() == after
    assert store.change({"cap.positions": 3}, "carl").personalization is False
    assert other(store).rollback("dora") == after
    assert [c.who for c in other(store).history()] == ["ann", "bob", "carl", "dora"]


def test_an_edit_by_hand_of_a_file_not_yet_written_is_the_newest(
    store: FlagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "write_file", fail)
    store.change({"personalization": False}, "bob")
    store.path.write_bytes(encode_flags(Flags(holdout=0.4)))
    assert other(store).load() == Flags(holdout=0.4)
    assert [c.who for c in other(store).history()] == ["ann", "bob", "file"]


def test_a_line_of_an_earlier_release_is_read(store: FlagStore) -> None:
    audit = store.root / "audit.jsonl"
    audit.write_bytes(audit.read_bytes().replace(b',"replaces":"', b',"was":"'))
    assert [c.replaces for c in store.history()] == [None]
    assert store.load() == Flags(holdout=0.2)


def test_the_reserve_is_spent_once_and_filled_again(tmp_path: Path) -> None:
    path, tried = tmp_path / "reserve", list[bool]()
    reserve = Reserve(path)
    reserve.fill()
    assert path.stat().st_size == RESERVED_BYTES

    def write() -> None:
        tried.append(path.exists())
        if path.exists():
            fail()

    reserve.spend_on(write)
    assert tried == [True, False]
    with pytest.raises(OSError, match="No space left"):
        reserve.spend_on(fail)
    reserve.fill()
    with pytest.raises(PermissionError):
        reserve.spend_on(lambda: (_ for _ in ()).throw(PermissionError(13, "denied")))
    assert path.exists(), "room does not help there"


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_cannot_be_stored_holds_in_memory_until_it_can_be(
    store: FlagStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    control = FlagControl(store, time)
    first = control.stamp()
    with monkeypatch.context() as full:
        full.setattr(store._log, "append", fail)
        with pytest.raises(NotStoredError):
            control.change({"personalization": False}, "bob")
        assert control.stamp() != first, "the worker follows"
        assert control.load() == Flags(holdout=0.2, personalization=False)
        assert other(store).load() == Flags(holdout=0.2), "others cannot"
        time.now += RETRY_S
        control.retry()
        assert control.unstored == ("personalization",)
        other(store).path.write_bytes(encode_flags(Flags(holdout=0.3)))
        assert control.load() == Flags(holdout=0.3, personalization=False), "an edit does not undo it"
    control.retry()
    assert control.unstored == ("personalization",), "not every fifth of a second"
    time.now += RETRY_S
    control.retry()
    assert (control.unstored, control.load()) == ((), Flags(holdout=0.3, personalization=False))
    assert [c.who for c in other(store).history()] == ["ann", "file", "bob"]


def test_the_way_back_from_what_was_not_stored(store: FlagStore, monkeypatch: pytest.MonkeyPatch) -> None:
    control = FlagControl(store, Time())
    with monkeypatch.context() as full:
        full.setattr(store._log, "append", fail)
        with pytest.raises(NotStoredError):
            control.change({"personalization": False}, "bob")
        assert control.rollback("bob") == control.load() == Flags(holdout=0.2)
        with pytest.raises(NotStoredError):
            control.rollback("bob")
        assert control.load() == Flags()
    assert control.change({"decision_share": 0.5}, "carl") == Flags(decision_share=0.5)
    assert (control.unstored, other(store).load()) == ((), Flags(decision_share=0.5))
