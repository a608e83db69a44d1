"""The partition against a plain list: writers, crashes, rotation, retention and readers in any order."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streaming.log.partition import Partition
from streaming.log.segment_frames import frame

SEGMENT_BYTES = 120
payloads = st.lists(st.text("ab{}:,", min_size=1, max_size=30).map(str.encode), min_size=1, max_size=4)


class PartitionMachine(RuleBasedStateMachine):
    """Two writers and one reader share a folder; `written` is what a list would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-partition-"))
        self.writers = [Partition(self.folder, SEGMENT_BYTES) for _ in range(2)]
        self.reader = Partition(self.folder, SEGMENT_BYTES)
        self.written: list[bytes] = []
        self.read: list[bytes] = []

    @initialize()
    def begin(self) -> None:
        self.position = self.reader.start()

    @rule(who=st.integers(0, 1), batch=payloads)
    def append(self, who: int, batch: list[bytes]) -> None:
        self.writers[who].append(batch)
        self.written += batch

    @rule(who=st.integers(0, 1))
    def reopen(self, who: int) -> None:
        self.writers[who].close()
        self.writers[who] = Partition(self.folder, SEGMENT_BYTES)

    @rule(payload=st.binary(min_size=1, max_size=30), share=st.floats(0.05, 0.95))
    def crash_while_writing(self, payload: bytes, share: float) -> None:
        """A process dies with part of a record on the disk; it was never acknowledged."""
        segments = sorted(self.folder.glob("*.seg"))
        torn = frame([payload])
        if segments and not self._torn:
            with segments[-1].open("ab") as file:
                file.write(torn[: max(1, int(len(torn) * share))])

    @property
    def _torn(self) -> bool:
        last = max(self.folder.glob("*.seg"))
        return last.stat().st_size > int(self.reader.end()) - int(last.stem)

    @rule(limit=st.integers(1, 5))
    def read_on(self, limit: int) -> None:
        batch = self.reader.read(self.position, limit)
        assert batch.damaged == ()
        assert len(batch.records) <= limit
        assert batch.position >= self.position
        self.read += batch.records
        self.position = batch.position

    @rule()
    def trim_what_was_read(self) -> None:
        """Segments wholly behind the reader grow old and go; what it has yet to read stays."""
        segments = sorted(self.folder.glob("*.seg"))
        for path, following in pairwise(segments):
            if following.stem <= self.position:
                os.utime(path, (time.time() - 7200,) * 2)
        self.writers[0].trim(timedelta(hours=1))

    @invariant()
    def nothing_is_lost_repeated_or_invented(self) -> None:
        assert self.read == self.written[: len(self.read)]

    @invariant()
    def the_end_is_where_a_reader_ends(self) -> None:
        probe = Partition(self.folder, SEGMENT_BYTES)
        position, rest = self.position, []
        while (batch := probe.read(position, 100)).position != position:
            rest += batch.records
            position = batch.position
        assert self.read + rest == self.written
        assert position == probe.end() == self.reader.end()
        probe.close()

    def teardown(self) -> None:
        for partition in (*self.writers, self.reader):
            partition.close()
        shutil.rmtree(self.folder)


TestPartitionMachine = PartitionMachine.TestCase
TestPartitionMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
