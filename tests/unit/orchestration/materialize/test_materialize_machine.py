"""Materialization against a dictionary: builds of several times, killed writes, lost stores, in any order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.lake.lake import Build
from feature_repo.online import EncodedRow, decode_value
from orchestration.materialize.checkpoint import read_checkpoint
from orchestration.materialize.materialize import materialize
from tests.conftest import NOW
from tests.support.offline import click_group

GROUP = click_group()
CLICKS = GROUP.feature_names.index("clicks")
PIECE = 2


class Store:
    """Monotone by event time, as the protocol says; dies after so many writes."""

    def __init__(self) -> None:
        self.rows: dict[str, EncodedRow] = {}
        self.kept: dict[str, bytes] = {}
        self.left: int | None = None

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        if self.left is not None:
            if self.left == 0:
                msg = "online store: gone"
                raise StoreError(msg)
            self.left -= 1
        taken = [r for r in rows if r.key not in self.rows or self.rows[r.key].micros <= r.micros]
        self.rows |= {r.key: r for r in taken}
        return len(taken)

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        self.kept |= marks

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        return {name: raw for name, raw in self.kept.items() if name.startswith(prefix)}


class MaterializeMachine(RuleBasedStateMachine):
    """`held` is (day, clicks) by user; `pieces` of a build are lists of users with their clicks."""

    builds = Bundle("builds")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-materialize-"))
        self.store: Any = Store()
        self.held: dict[str, tuple[int, int]] = {}
        self.count = 0
        self.pieces: dict[int, list[list[tuple[str, int]]]] = {}
        self.day: dict[int, int] = {}
        self.unfinished: tuple[int, int, int] | None = None  # build, pieces done, rows taken

    @rule(target=builds, day=st.integers(0, 2), users=st.sets(st.integers(0, 5), min_size=1))
    def build(self, day: int, users: set[int]) -> tuple[int, Build]:
        self.count += 1
        rows = [(f"u{n}", 100 * self.count + n) for n in sorted(users)]
        as_of = NOW + timedelta(days=day)
        names = {"user_id": [u for u, _ in rows], "clicks": [c for _, c in rows]}
        empty = {"last_item": [None] * len(rows), "last_event_time": [None] * len(rows)}
        times = {"event_timestamp": [as_of] * len(rows), "created_timestamp": [as_of] * len(rows)}
        path = self.folder / f"{self.count}.parquet"
        table = pa.Table.from_pydict(names | empty | times, schema=GROUP.arrow_schema)
        pq.write_table(table, path, row_group_size=PIECE)
        self.pieces[self.count] = [rows[n : n + PIECE] for n in range(0, len(rows), PIECE)]
        self.day[self.count] = day
        return self.count, Build(path, as_of, NOW + timedelta(seconds=self.count), len(rows))

    def expect(self, number: int, writes: int | None) -> int | None:
        """Rows taken in all, or `None` where the store dies on the way."""
        done, taken = 0, 0
        if self.unfinished is not None and self.unfinished[0] == number:
            _, done, taken = self.unfinished
        for piece in self.pieces[number][done:]:
            if writes == 0:
                self.unfinished = (number, done, taken) if done else self.unfinished
                return None
            writes = None if writes is None else writes - 1
            for user, clicks in piece:
                if user not in self.held or self.held[user][0] <= self.day[number]:
                    self.held[user] = (self.day[number], clicks)
                    taken += 1
            done += 1
            self.unfinished = (number, done, taken)
        self.unfinished = None
        return taken

    @rule(build=builds, writes=st.none() | st.integers(0, 3))
    def write(self, build: tuple[int, Build], writes: int | None) -> None:
        number, found = build
        expected = self.expect(number, writes)
        self.store.left = writes
        told: list[int] = []
        if expected is None:
            with pytest.raises(StoreError, match="gone"):
                materialize(GROUP, found, self.store, told.append)
            return
        assert materialize(GROUP, found, self.store, told.append) == expected
        assert sum(told) == found.rows, "all is told as dealt with, resumed pieces too"

    @rule()
    def the_store_comes_back_empty(self) -> None:
        """Rows and marks lie in the same store: nothing is skipped that is not there."""
        self.store = Store()
        self.held.clear()
        self.unfinished = None

    @invariant()
    def the_store_holds_the_newest_of_every_user(self) -> None:
        clicks = {user: decode_value(row.values[CLICKS]) for user, row in self.store.rows.items()}
        assert clicks == {user: clicks for user, (_, clicks) in self.held.items()}

    @invariant()
    def the_mark_says_how_far_the_last_one_came(self) -> None:
        mark = read_checkpoint(GROUP, self.store)
        if self.unfinished is not None:
            assert mark is not None
            assert (len(mark.done), mark.rows, mark.complete) == (*self.unfinished[1:], False)
        else:
            assert mark is None or mark.complete

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestMaterializeMachine = MaterializeMachine.TestCase
TestMaterializeMachine.settings = settings(max_examples=15, stateful_step_count=20)
