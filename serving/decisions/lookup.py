"""Finds the record of an answer in the log of decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from feature_repo.errors import HeadraceError
from serving.client.request_id import made_at
from serving.decisions.record import Decision, decode_decision
from serving.decisions.time_marks import Marks, Stretch
from streaming.log import EventLog, PositionLostError, partition_of

_BATCH = 256
FURTHER = 20_000
"""Records read after the newest one of a request was found, for others with the same id."""


class TooFarBackError(HeadraceError):
    """The record was not among as many of the newest as may be read."""


@dataclass(slots=True)
class DecisionFinder:
    """Looks records up by request id.

    An id that we made tells its time, and so the stretch of the log its record lies in; else the log is read
    from its newest stretch to its oldest.

    Args:
        most: records read of the log at most for an id that tells no time; `None`: all.
    """

    log: EventLog
    marks: Marks
    most: int | None = None

    def find(self, request_id: str) -> Decision | None:
        """The newest record of a request; `None` if there is none. Raises as `find_all`."""
        found = self.find_all(request_id, further=0)
        return found[0] if found else None

    def find_all(self, request_id: str, further: int = FURTHER) -> list[Decision]:
        """Records of a request, newest first: a client may use an id again.

        Args:
            further: records read beyond the stretch of the newest one.

        Raises:
            TooFarBackError: more than `most` records were read, and none was found.
            LogError: the log cannot be read.
        """
        partition = partition_of(request_id, self.log.partitions)
        search = _Search(self.log, partition, request_id, None)
        made = made_at(request_id)
        if made is not None and (found := search.within(self.marks.around(made, partition))):
            return found
        search.left = self.most
        all_found: list[Decision] = []
        for stretch in self.marks.newest_first(partition):
            try:
                found = search.within(stretch)
            except TooFarBackError:
                if all_found:
                    break
                raise
            if found and not all_found:
                search.left = further
            all_found += found
            if all_found and not search.left:
                break
        return all_found


@dataclass(slots=True)
class _Search:
    log: EventLog
    partition: int
    request_id: str
    left: int | None
    seen: set[bytes] = field(default_factory=set)

    def within(self, stretch: Stretch) -> list[Decision]:
        """The records of the request in a stretch, newest first."""
        start, stop = stretch
        position = self.log.start(self.partition)
        if start is not None:
            position = max(position, start)
        wanted, found = msgspec.json.encode(self.request_id), list[Decision]()
        while stop is None or position < stop:
            try:
                batch = self.log.read(self.partition, position, _BATCH)
            except PositionLostError:
                return []  # a mark of a log that is no more
            if not batch.records and batch.position == position:
                break
            self._count(len(batch.records))
            position = batch.position
            for raw in batch.records:
                # A record is decoded only if the id occurs in it.
                if wanted not in raw or raw in self.seen:  # a batch may reach into the next stretch
                    continue
                if (decision := self._decoded(raw)) is not None:
                    self.seen.add(raw)
                    found.append(decision)
        return found[::-1]

    def _decoded(self, raw: bytes) -> Decision | None:
        try:
            decision = decode_decision(raw)
        except msgspec.MsgspecError:
            return None
        return decision if decision.request_id == self.request_id else None

    def _count(self, records: int) -> None:
        if self.left is None:
            return
        if self.left <= 0:
            msg = (
                f"no decision of request {self.request_id!r} among the newest records; "
                "`headrace replay` reads the whole log"
            )
            raise TooFarBackError(msg)
        self.left -= records
