"""The quarantine against a dictionary: two processes, torn lines, replays and pruning in any order."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from feature_repo.errors import ContractError
from quality.quarantine.store import Entry, Quarantine
from tests.conftest import NOW

RAWS = st.sampled_from([b"{", b"{}", b"\xff\xfe", b"", "ä\n".encode(), b'"\\u0000"'])
PLACES = st.tuples(st.sampled_from(["http", "a.jsonl"]), st.sampled_from([None, 1, 2]))
CODES = st.sampled_from(["not_json", "missing_field"])
KEPT = timedelta(days=2)


class QuarantineMachine(RuleBasedStateMachine):
    """`kept` is by what makes a rejection the same one: bytes, source and place."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="headrace-quarantine-"))
        self.now = NOW
        self.processes = [Quarantine(self.root, lambda: self.now) for _ in range(2)]
        self.kept: dict[tuple[bytes, str, int | None], tuple[str, datetime]] = {}
        self.retried: dict[tuple[bytes, str, int | None], datetime] = {}

    @rule(by=st.integers(0, 1), raw=RAWS, place=PLACES, code=CODES)
    def put(self, by: int, raw: bytes, place: tuple[str, int | None], code: str) -> None:
        new = self.processes[by].put(raw, *place, ContractError(code, "f", f"{code}: why"), fmt="csv")
        key = (raw, *place)
        assert new == (key not in self.kept)
        if new:
            self.kept[key] = (code, self.now)

    @rule(hours=st.sampled_from([1, 13, 30]))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(by=st.integers(0, 1))
    def start_again(self, by: int) -> None:
        self.processes[by] = Quarantine(self.root, lambda: self.now)

    @precondition(lambda self: self.kept)
    @rule(name=st.sampled_from(["day", "retried"]))
    def crash_while_writing(self, name: str) -> None:
        files = sorted(self.root.glob(f"{name}*.jsonl"))
        if files:
            with files[-1].open("ab") as file:
                file.write(b'{"id": "00ff", "raw": "cut')

    @rule(by=st.integers(0, 1), code=CODES)
    def replay(self, by: int, code: str) -> None:
        pending = list(self.processes[by].entries(code=code, pending=True))
        self.processes[by].mark_retried(pending)
        for key, (found, _) in self.kept.items():
            if found == code:
                self.retried.setdefault(key, self.now)

    @rule(by=st.integers(0, 1))
    def prune(self, by: int) -> None:
        horizon = (self.now - KEPT).astimezone(UTC).date()
        gone = [key for key, (_, first) in self.kept.items() if first.date() < horizon]
        assert self.processes[by].prune(KEPT) == len(gone)
        for key in gone:
            del self.kept[key]
            self.retried.pop(key, None)

    @invariant()
    def every_rejection_is_kept_once_byte_for_byte(self) -> None:
        found = [(e.raw, e.source, e.line, e.code, e.first_seen) for e in self.entries()]
        assert found == [(*key, *value) for key, value in self.kept.items()]
        assert all((e.field, e.message, e.format) == ("f", f"{e.code}: why", "csv") for e in self.entries())

    @invariant()
    def what_was_replayed_is_not_pending(self) -> None:
        pending = {(e.raw, e.source, e.line) for e in self.processes[0].entries(pending=True)}
        assert pending == self.kept.keys() - self.retried.keys()
        assert self.processes[0].count(pending=True) == len(pending)
        assert self.processes[1].count() == len(self.kept)

    def entries(self) -> list[Entry]:
        return list(self.processes[1].entries())

    def teardown(self) -> None:
        shutil.rmtree(self.root)


TestQuarantineMachine = QuarantineMachine.TestCase
TestQuarantineMachine.settings = settings(max_examples=30, stateful_step_count=25)
