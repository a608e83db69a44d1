"""Positions of the decision log by time: a line now and then, so that a record is found without reading all.

A log tells positions, not times. Each worker notes, at most every ten seconds, the ends of all partitions; a
file holds a day of UTC, and files past retention are removed. Lines that cannot be read are passed over:
marks only narrow where to look.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TypeAlias

from streaming.log import EventLog, Position

EVERY_S = 10.0
BEFORE = timedelta(seconds=10)
"""How far the clocks of two machines may lie apart."""
AFTER = timedelta(seconds=60)
"""How long after its answer a decision may be written, clocks included."""
_SUFFIX = ".marks"
_WHOLE = " ."
log = logging.getLogger(__name__)

Stretch: TypeAlias = tuple[Position | None, Position | None]
"""From one position up to another; `None`: from the oldest record, up to the newest."""


class Marks:
    """The marks below a folder, which workers share.

    Args:
        clock: wall time.
        keep: age at which marks may go: not before the log's records.
        every_s: time between two marks of one worker.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], datetime], keep: timedelta, every_s: float = EVERY_S
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._keep = keep + timedelta(days=1)
        self._every_s = every_s
        self._due = 0.0

    def note(self, event_log: EventLog) -> None:
        """Note where the log ends, if that was not done lately; call it before records are written.

        A folder that cannot be written costs speed of finding, nothing else.

        Raises:
            LogError: the log cannot be read.
        """
        if monotonic() < self._due:
            return
        self._due = monotonic() + self._every_s
        ends = [event_log.end(partition) for partition in range(event_log.partitions)]
        now = self._clock()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{now:%Y%m%d}{_SUFFIX}"
            fresh = not path.exists()
            with path.open("a", encoding="ascii") as file:
                # A line of its own, whatever a full disk left of the one before, and whole only with its end.
                file.write(f"\n{now.timestamp():.3f} {' '.join(ends)}{_WHOLE}")
            if fresh:
                self._remove_old(now)
        except OSError as error:
            log.warning("%s: marks of the decisions cannot be written (%s)", self._folder, error.strerror)

    def _remove_old(self, now: datetime) -> None:
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.stem < f"{now - self._keep:%Y%m%d}":
                path.unlink(missing_ok=True)

    def around(self, time: datetime, partition: int) -> Stretch:
        """Where a decision of a request of that time lies."""
        days = {f"{time + shift:%Y%m%d}" for shift in (-BEFORE - timedelta(days=1), -BEFORE, AFTER)}
        marks = self._read(days, partition)
        times = [at for at, _ in marks]
        first = bisect_right(times, (time - BEFORE).timestamp()) - 1
        last = bisect_left(times, (time + AFTER).timestamp())
        return marks[first][1] if first >= 0 else None, marks[last][1] if last < len(marks) else None

    def newest_first(self, partition: int) -> Iterator[Stretch]:
        """The whole log in stretches, newest first, each twice as many marks long as the one before."""
        marks = [position for _, position in self._read(None, partition)]
        upper, count = None, 1
        while marks:
            lower = marks[-count:][0]
            yield lower, upper
            del marks[-count:]
            upper, count = lower, count * 2
        yield None, upper

    def _read(self, days: set[str] | None, partition: int) -> list[tuple[float, Position]]:
        """Times and positions, ascending in both."""
        found = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if days is None or path.stem in days:
                for line in path.read_text("ascii", errors="replace").splitlines():
                    at, *positions = line.removesuffix(_WHOLE).split(" ")
                    if not line.endswith(_WHOLE) or partition >= len(positions):
                        continue
                    with suppress(ValueError):
                        found.append((float(at), positions[partition]))
        found.sort()
        # A log that was replaced has new positions; those noted before are not in it.
        kept: list[tuple[float, Position]] = []
        for mark in found:
            while kept and kept[-1][1] > mark[1]:
                kept.pop()
            kept.append(mark)
        return kept


def marks_of(folder: Path, retention_hours: float) -> Marks:
    """The marks of a home's folder, by the wall clock."""
    return Marks(folder, lambda: datetime.now(UTC), timedelta(hours=retention_hours))
