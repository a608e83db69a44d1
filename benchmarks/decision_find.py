"""Finding one decision in a large log by the time in its id; baseline reading a partition from its start."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target, alternate, timed

if TYPE_CHECKING:
    from serving.decisions.record import Decision

RECORDS = 20_000
CANDIDATES = 100
PER_S = 10
"""Requests per second in the log, which determine how much to read around an id's time."""
TARGETS = {"decision_find": Target(100.0)}


def _decision(request_id: str, time: datetime) -> Decision:
    from serving.control.flags import Flags
    from serving.control.rules import Rules
    from serving.decisions.record import Decision, Versions
    from serving.schemas.rank_request import Candidate
    from serving.schemas.rank_response import RankedItem, Tier

    items = [f"item-{n:06d}" for n in range(CANDIDATES)]
    return Decision(
        request_id=request_id,
        time=time,
        user="0" * 24,
        session="1" * 24,
        query=None,
        candidates=[Candidate(i, 1.0 - n / CANDIDATES) for n, i in enumerate(items)],
        limit=None,
        explain=False,
        features={},
        flags=Flags(),
        rules=Rules(),
        versions=Versions("i", "b", "f"),
        arms={},
        held_out=False,
        seed=request_id,
        completed=["consent", "flags", "arm", "features", "blend", "cap"],
        tier=Tier.SESSION_LONG_TERM,
        degraded=[],
        ages={},
        timings_ms={},
        items=[RankedItem(i, 1.234567 - n / 81, n, n, None, 0.85) for n, i in enumerate(items)],
        dropped=[],
    )


def run() -> list[Row]:
    """Measure the milliseconds to find a record by id; the baseline uses neither time marks nor times."""
    from feature_repo.home import Home
    from feature_repo.settings import Settings
    from serving.decisions.lookup import DecisionFinder
    from serving.decisions.record import TOPIC, encode_decision
    from serving.decisions.time_marks import Marks
    from streaming.log import open_log

    with tempfile.TemporaryDirectory() as folder:
        home, now = Home(Path(folder)).ensure(), [datetime(2026, 1, 1, 12, tzinfo=UTC)]
        log = open_log(Settings(home=home.root), home, TOPIC)
        marks = Marks(home.decisions, lambda: now[0], timedelta(days=7), every_s=-1.0)
        ids, size = [], 0
        for start in range(0, RECORDS, 10 * PER_S):
            marks.note(log)
            batch = []
            for n in range(10 * PER_S):
                made = now[0] + timedelta(seconds=n / PER_S)
                ids.append(f"{int(made.timestamp() * 1000):012x}{start + n:012x}")
                batch.append((ids[-1], encode_decision(_decision(ids[-1], made))))
            size += sum(len(raw) for _, raw in batch)
            log.publish(batch)
            now[0] += timedelta(seconds=10)
        finder = DecisionFinder(log, marks)
        without = DecisionFinder(log, Marks(home.root / "none", lambda: now[0], timedelta(days=7)))
        rng = random.Random(1)

        def look(which: DecisionFinder) -> None:
            wanted = rng.choice(ids)
            found = which.find(wanted)
            assert found is not None
            assert found.request_id == wanted

        pair = alternate(timed(lambda: look(finder)), timed(lambda: look(without)), rounds=21)
        extra = {"records": RECORDS, "bytes_each": size // RECORDS, "per_s": PER_S}
        log.close()
        return [
            Row(
                "decision_find",
                pair.value * 1e3,
                "ms",
                "reading the partition from its start",
                pair.baseline * 1e3,
                pair.samples,
                extra,
            )
        ]
