"""The state of a shard on the disk against dictionaries: cut anywhere, it opens at a whole snapshot."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streaming.sessions import state_files as fold_state
from streaming.sessions.state_files import SUFFIX, StateFolder

KEYS = st.sampled_from([f"s{n}" for n in range(8)])
VALUES = st.binary(min_size=0, max_size=40)


class StateMachine(RuleBasedStateMachine):
    """`snapshots` are (file, its size then, state, facts) of every one that is still on the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # Small, so that walks come round, pages fill and files follow one another within an example.
        self.patch.setattr(fold_state, "SMALLEST", 120)
        self.patch.setattr(fold_state, "PAGE_ENTRIES", 3)
        self.patch.setattr(fold_state, "WALK_SNAPSHOTS", 3)
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-state-"))
        self.file = StateFolder(self.folder)
        self.state: dict[str, bytes] = self.file.load()
        self.facts: dict[str, bytes] = {}
        self.snapshots: list[tuple[str, int, dict[str, bytes], dict[str, bytes]]] = []

    @rule(
        changes=st.dictionaries(KEYS, st.none() | VALUES, min_size=1, max_size=6),
        position=st.binary(min_size=1, max_size=4),
    )
    def save(self, changes: dict[str, bytes | None], position: bytes) -> None:
        for key, value in changes.items():
            if value is not None:
                self.state[key] = value
            else:
                self.state.pop(key, None)
        facts = {"position": position}
        self.file.save(self.state, changes.keys(), facts)
        self.facts |= facts
        newest = self.files()[-1]
        if newest.stat().st_size == 0 or not self.snapshots or newest.name != self.snapshots[-1][0]:
            # The snapshot ended one file, facts alone began the next: there is nothing older to go back to.
            self.snapshots = []
        self.snapshots.append((newest.name, newest.stat().st_size, dict(self.state), dict(self.facts)))

    def files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def open_again(self) -> None:
        self.file.close()
        self.file = StateFolder(self.folder)

    @rule()
    def restart(self) -> None:
        self.open_again()
        self.expect(*(self.snapshots[-1][2:] if self.snapshots else ({}, {})))

    @rule(garbage=st.binary(min_size=1, max_size=60))
    def die_while_saving(self, garbage: bytes) -> None:
        """Of a snapshot only the beginning, or the power's last sparks, came to the disk."""
        with self.files()[-1].open("ab") as file:
            file.write(garbage)
        self.restart()

    @rule(lost=st.integers(1, 200))
    def lose_the_end_to_a_power_cut(self, lost: int) -> None:
        self.file.close()
        newest = self.files()[-1]
        inside = [s for s in self.snapshots if s[0] == newest.name]
        if len(inside) < 2:
            return
        size = max(newest.stat().st_size - lost, inside[0][1])
        with newest.open("r+b") as file:
            file.truncate(size)
        self.snapshots = [s for s in inside if s[1] <= size]
        self.restart()

    @rule(back=st.integers(1, 40))
    def a_bit_of_the_last_snapshot_is_flipped(self, back: int) -> None:
        inside = [s for s in self.snapshots if s[0] == self.files()[-1].name]
        if len(inside) < 2:
            return
        self.file.close()
        newest = self.files()[-1]
        raw = bytearray(newest.read_bytes())
        place = max(len(raw) - back, inside[-2][1])
        raw[place] ^= 1
        newest.write_bytes(raw)
        self.snapshots = inside[:-1]
        self.restart()

    def expect(self, state: dict[str, bytes], facts: dict[str, bytes]) -> None:
        assert self.file.load() == state
        assert self.file.facts() == facts
        self.state, self.facts = dict(state), dict(facts)

    @invariant()
    def the_disk_holds_little_more_than_the_state(self) -> None:
        assert len(self.files()) <= 3, "files that are wholly superseded go"

    def teardown(self) -> None:
        self.restart()
        self.file.close()
        shutil.rmtree(self.folder)
        self.patch.undo()


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(max_examples=60, stateful_step_count=40)


def test_the_disk_holds_a_small_multiple_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many snapshots there were: what is said again takes the place of what was said before."""
    monkeypatch.setattr(fold_state, "SMALLEST", 1000)
    file = StateFolder(tmp_path)
    state = file.load()
    for n in range(500):
        state[f"s{n % 20}"] = b"%050d" % n
        file.save(state, {f"s{n % 20}"}, {"position": b"%d" % n})
    file.close()
    held = sum(len(key) + len(value) for key, value in state.items())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10 * held
    again = StateFolder(tmp_path)
    assert (again.load(), again.facts()) == (state, {"position": b"499"})
    again.close()
