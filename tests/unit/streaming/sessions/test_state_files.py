"""The state folder: equals a dict over any history; cut short, damaged, on a full disk, round and round."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import StoreError
from streaming.sessions import state_files as fold_state
from streaming.sessions.state_files import SUFFIX, StateFolder

KEYS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.one_of(
        st.dictionaries(KEYS, st.binary(max_size=9) | st.none(), max_size=4),  # a snapshot
        st.just("restart"),
        st.just("torn"),
    ),
    max_size=25,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "sessions-0000"


def files(path: Path) -> list[Path]:
    return sorted(path.glob(f"*{SUFFIX}"))


def reopened(folder: StateFolder, path: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    folder.close()
    again = StateFolder(path)
    found = again.load(), again.facts()
    again.close()
    return found


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([0, 60, 1 << 20]), st.integers(1, 3))
def test_equals_a_dict_over_any_history(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object], smallest: int, page: int
) -> None:
    path = tmp_path_factory.mktemp("state") / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_state, "SMALLEST", smallest)
        patch.setattr(fold_state, "PAGE_ENTRIES", page)
        held: dict[str, bytes] = {}
        facts: dict[str, bytes] = {}
        folder = StateFolder(path)
        for n, step in enumerate(steps):
            if isinstance(step, dict):
                for key, value in step.items():
                    if value is None:
                        held.pop(key, None)
                    else:
                        held[key] = value
                facts |= {"position": b"%d" % n, f"heard/{n % 5}": b"x"}
                folder.save(held, step.keys(), facts)
                continue
            folder.close()
            if step == "torn" and files(path):
                with files(path)[-1].open("ab") as file:
                    file.write(b"torn")
            folder = StateFolder(path)
            assert folder.facts() == facts
            assert folder.load() == held
        assert reopened(folder, path) == (held, facts)


def test_a_snapshot_is_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StateFolder(path)
    folder.save({"a": b"1", "b": b"2"}, ["a", "b"], {"position": b"7"})
    write, calls = os.write, list[int]()

    def full(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, bytes(data[: max(len(data) // 2, 1)]))  # as write(2) may

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(
        StoreError, match=r"No space left.*Deleting HEADRACE_HOME/stream makes the stream read"
    ):
        folder.save({"a": b"9", "b": b"2"}, ["a"], {"position": b"8"})
    monkeypatch.setattr(os, "write", write)
    folder.save({"a": b"3"}, ["b", "a"], {})
    assert reopened(folder, path) == ({"a": b"3"}, {"position": b"7"})


@pytest.mark.parametrize("cut", [1, 12, 13, 20])
def test_a_snapshot_cut_short_is_taken_back(path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    folder = StateFolder(path)
    folder.save({"a": b"1"}, ["a"], {"position": b"1"})
    whole = files(path)[0].stat().st_size
    folder.save({"a": b"2"}, ["a"], {"position": b"2"})
    folder.close()
    os.truncate(files(path)[0], files(path)[0].stat().st_size - cut)
    again = StateFolder(path)
    assert again.facts() == {"position": b"1"}
    assert again.load() == {"a": b"1"}
    assert "bytes of a snapshot cut short" in caplog.text
    assert files(path)[0].stat().st_size == whole
    again.save({"a": b"3"}, ["a"], {"position": b"3"})
    assert reopened(again, path) == ({"a": b"3"}, {"position": b"3"})


def test_behind_a_damaged_place_nothing_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later snapshot without an earlier one would be state of no position at all."""
    monkeypatch.setattr(fold_state, "SMALLEST", 0)
    folder, held, history = StateFolder(path), {f"k{n}": b"0" for n in range(4)}, list[dict[str, bytes]]()
    for n in range(12):
        held[f"k{n % 4}"] = b"%d" % n
        folder.save(held, held.keys() if n == 0 else [f"k{n % 4}"], {"position": b"%d" % n})
        history.append(dict(held))
    folder.close()
    first, *later = files(path)
    assert later
    raw = bytearray(first.read_bytes())
    raw[-1] ^= 1
    first.write_bytes(raw)
    again = StateFolder(path)
    position, state = int(again.facts()["position"]), again.load()
    again.close()
    assert position < len(history) - 1
    assert state == history[position]
    assert files(path) == [first]


def test_the_files_stay_within_four_times_the_state(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_state, "SMALLEST", 1000)
    folder = StateFolder(path)
    held = {f"key-{n:03d}": bytes(100) for n in range(300)}
    folder.save(held, held.keys(), {})
    live = files(path)[0].stat().st_size
    sizes = []
    for n in range(200):
        changed = [f"key-{(n * 37 + i) % 300:03d}" for i in range(20)]
        for key in changed:
            held[key] = b"%d" % n + bytes(96)
        folder.save(held, changed, {"position": b"%d" % n})
        folder.settle()
        sizes.append(sum(file.stat().st_size for file in files(path)))
    assert max(sizes) < 4.5 * live
    assert len(files(path)) <= 2
    assert reopened(folder, path)[0] == held


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is HEADRACE_HOME writable and its disk not full"):
        StateFolder(tmp_path / "file" / "state")


def test_garbage_is_state_of_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir(parents=True)
    (path / f"00000001{SUFFIX}").write_bytes(b"no state" * 100)
    folder = StateFolder(path)
    assert (folder.load(), folder.facts()) == ({}, {})
    assert "800 bytes of a snapshot cut short" in caplog.text
    folder.close()


def test_files_that_cannot_be_removed_are_reported_and_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fold_state, "SMALLEST", 0)

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    folder = StateFolder(path)
    for n in range(6):
        folder.save({"a": b"%d" % n}, ["a"], {"position": b"%d" % n})
        folder.settle()
    assert len(files(path)) > 2
    assert "files no longer needed stay: [Errno 5]" in caplog.text
    assert reopened(folder, path) == ({"a": b"5"}, {"position": b"5"})
