"""Builds against three dictionaries: written, confirmed, held back, promoted and rebuilt in any order."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from feature_repo.lake.lake import BLOCKED, CHECKED, Build, Builds
from tests.conftest import NOW

DAYS = st.integers(0, 2)


class BuildsMachine(RuleBasedStateMachine):
    """No two builds have the same bytes; `files` and `checked` hold them by day."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="headrace-builds-"))
        self.builds = Builds(self.root)
        self.files: dict[int, bytes] = {}
        self.checked: dict[int, bytes] = {}
        self.current: int | None = None
        self.blocked: bytes | None = None
        self.count = 0

    def build(self, day: int) -> Build:
        as_of = NOW + timedelta(days=day)
        return Build(self.builds.path("g", as_of), as_of, NOW, 1)

    @rule(day=DAYS)
    def write(self, day: int) -> None:
        self.count += 1
        path = self.builds.write("g", NOW + timedelta(days=day), pa.table({"n": [self.count]}))
        assert path == self.build(day).path
        self.files[day] = path.read_bytes()

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def pass_the_checks(self, data: st.DataObject) -> None:
        """As the chain does it: confirmed first, current after."""
        day = data.draw(st.sampled_from(sorted(self.files)))
        self.builds.confirm(self.build(day))
        self.builds.promote("g", self.build(day))
        self.checked[day] = self.files[day]
        self.current = day

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def die_between_confirmed_and_current(self, data: st.DataObject) -> None:
        day = data.draw(st.sampled_from(sorted(self.files)))
        self.builds.confirm(self.build(day))
        self.checked[day] = self.files[day]

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def fail_the_checks(self, data: st.DataObject) -> None:
        day = data.draw(st.sampled_from(sorted(self.files)))
        self.builds.hold_back("g", self.build(day))
        self.blocked = self.files[day]
        if day in self.checked:
            self.files[day] = self.checked[day]
        elif self.current != day:
            del self.files[day]

    @rule(day=DAYS)
    def die_while_writing(self, day: int) -> None:
        aside = self.build(day).path.with_name(".data.parquet.torn.tmp")
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(b"PAR1")

    @invariant()
    def the_history_is_what_may_be_read(self) -> None:
        found = {path: path.read_bytes() for path in self.builds.history("g")}
        assert found == {self.build(day).path: held for day, held in self.files.items()}
        assert list(found) == [self.build(day).path for day in sorted(self.files)]

    @invariant()
    def the_current_build_is_there_and_passed(self) -> None:
        found = self.builds.current("g")
        if self.current is None:
            assert found is None
            return
        assert found == self.build(self.current)
        assert found.path.read_bytes() == self.files[self.current]
        # A rebuild may stand in its place before it is judged; what passed is kept beside it.
        assert found.path.with_name(CHECKED).read_bytes() == self.checked[self.current]

    @invariant()
    def what_was_refused_can_be_looked_at(self) -> None:
        path = self.builds.folder("g") / BLOCKED
        assert (path.read_bytes() if path.exists() else None) == self.blocked

    def teardown(self) -> None:
        shutil.rmtree(self.root)


TestBuildsMachine = BuildsMachine.TestCase
TestBuildsMachine.settings = settings(max_examples=20, stateful_step_count=20)
