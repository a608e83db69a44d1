"""The flag store against plain lists: changes, edits by hand, files broken or gone, torn lines, rollbacks."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.control.flag_store import FlagStore
from serving.control.flags import Flags, FlagsError, changed, encode_flags
from tests.conftest import NOW

CHANGES = st.one_of(
    st.fixed_dictionaries({"personalization": st.booleans()}),
    st.fixed_dictionaries({"holdout": st.sampled_from([0.0, 0.05, 0.5])}),
    st.fixed_dictionaries({"cap.positions": st.sampled_from([None, 10, 200])}),
    st.fixed_dictionaries({"holdout": st.just(0.1), "weights.session": st.sampled_from([0.5, 2.0])}),
)
IMPOSSIBLE = [{"holdout": 1.5}, {"nonsense": 1}, {"cap.positions.deep": 1}, {"weights": {"moon": 1.0}}]


class FlagStoreMachine(RuleBasedStateMachine):
    """`sets` holds the flags after each version, `noted` the audit log as (version, content, who)."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="headrace-flags-"))
        self.now = NOW
        # Two processes; each reads what the other wrote.
        self.stores = [FlagStore(self.root, lambda: self.now) for _ in range(2)]
        self.sets: list[Flags] = [Flags()]
        self.noted: list[tuple[int, int, str]] = []
        self.file = Flags()
        self.broken = False

    def note(self, flags: Flags, who: str, content: int | None = None) -> None:
        version = len(self.sets)
        self.sets.append(flags)
        self.noted.append((version, version if content is None else content, who))

    def see_the_file(self) -> None:
        if self.file != self.sets[-1]:
            self.note(self.file, "file")

    @rule(store=st.integers(0, 1), changes=CHANGES)
    def change(self, store: int, changes: dict[str, object]) -> None:
        self.now += timedelta(seconds=1)
        if self.broken:
            with pytest.raises(FlagsError, match="not valid JSON"):
                self.stores[store].change(changes, "ann")
            return
        after = self.stores[store].change(changes, "ann")
        self.see_the_file()
        assert after == changed(self.sets[-1], changes)
        if after != self.sets[-1]:
            self.note(after, "ann")
        self.file = after

    @precondition(lambda self: not self.broken)
    @rule(store=st.integers(0, 1), changes=st.sampled_from(IMPOSSIBLE))
    def refuse(self, store: int, changes: dict[str, object]) -> None:
        with pytest.raises(FlagsError):
            self.stores[store].change(changes, "ann")
        self.see_the_file()

    @rule(holdout=st.sampled_from([0.05, 0.2, 0.3]))
    def edit_by_hand(self, holdout: float) -> None:
        self.file = changed(Flags(), {"holdout": holdout})
        self.stores[0].path.write_bytes(encode_flags(self.file))
        self.broken = False

    @rule()
    def edit_badly(self) -> None:
        self.stores[0].path.write_bytes(b'{"holdout": 0.2')
        self.broken = True

    @rule()
    def vanish(self) -> None:
        """No edit: what was noted last goes on; an edit that no one had seen never was in force."""
        self.stores[0].path.unlink(missing_ok=True)
        self.file, self.broken = self.sets[-1], False

    @precondition(lambda self: self.noted)
    @rule()
    def crash_while_noting(self) -> None:
        """Part of a line, of a change that never came into force."""
        with (self.root / "audit.jsonl").open("ab") as audit:
            audit.write(b'{"version":9,"content":9,"who":"zo')

    @rule(store=st.integers(0, 1))
    def load(self, store: int) -> None:
        if self.broken:
            with pytest.raises(FlagsError, match="not valid JSON"):
                self.stores[store].load()
            return
        assert self.stores[store].load() == self.file
        self.see_the_file()
        if self.noted:
            assert self.stores[store].path.exists(), "a file that was gone is written again"

    @rule(store=st.integers(0, 1))
    def rollback(self, store: int) -> None:
        if self.broken:
            # What never was in force is no version: the last good set comes back.
            assert self.stores[store].rollback("bob") == self.sets[-1]
            self.file, self.broken = self.sets[-1], False
            return
        self.see_the_file()
        target = self.noted[-1][1] - 1 if self.noted else -1
        if target < 0:
            with pytest.raises(FlagsError, match=r"nothing to go back to|no earlier one"):
                self.stores[store].rollback("bob")
            return
        assert self.stores[store].rollback("bob") == self.sets[target]
        self.note(self.sets[target], "bob", target)
        self.file = self.sets[target]

    @invariant()
    def the_log_tells_every_change_once_and_in_order(self) -> None:
        history = self.stores[0].history()
        assert [(c.version, c.content, c.who) for c in history] == self.noted
        assert [c.after for c in history] == self.sets[1:]
        assert [c.before for c in history] == self.sets[:-1]
        assert sorted(c.when for c in history) == [c.when for c in history]

    @invariant()
    def a_new_process_finds_the_last_set(self) -> None:
        last_good = self.stores[1].last_good()
        assert last_good == (self.sets[-1] if self.noted else None)

    @invariant()
    def nothing_is_left_aside(self) -> None:
        assert not list(self.root.glob(".*.tmp"))

    def teardown(self) -> None:
        shutil.rmtree(self.root)


TestFlagStoreMachine = FlagStoreMachine.TestCase
TestFlagStoreMachine.settings = settings(max_examples=25, stateful_step_count=25)
