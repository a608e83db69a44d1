"""Finds the record of an answer in the log of decisions."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from feature_repo.errors import HeadraceError
from serving.client.request_id import made_at
from serving.decision import Decision, decode_decision
from serving.decision_marks import Marks, Stretch
from streaming.log import EventLog, PositionLostError, partition_of

_BATCH = 256


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
        """The newest record of a request; `None` if there is none.

        Raises:
            TooFarBackError: more than `most` records were read.
            LogError: the log cannot be read.
        """
        partition = partition_of(request_id, self.log.partitions)
        search = _Search(self.log, partition, request_id, None)
        made = made_at(request_id)
        if made is not None and (found := search.within(self.marks.around(made, partition))):
            return found
        search.left = self.most
        for stretch in self.marks.newest_first(partition):
            if found := search.within(stretch):
                return found
        return None


@dataclass(slots=True)
class _Search:
    log: EventLog
    partition: int
    request_id: str
    left: int | None

    def within(self, stretch: Stretch) -> Decision | None:
        """The last record of the request in a stretch."""
        start, stop = stretch
        position = self.log.start(self.partition)
        if start is not None:
            position = max(position, start)
        wanted, found = msgspec.json.encode(self.request_id), None
        while stop is None or position < stop:
            try:
                batch = self.log.read(self.partition, position, _BATCH)
            except PositionLostError:
                return None  # a mark of a log that is no more
            if not batch.records and batch.position == position:
                break
            self._count(len(batch.records))
            position = batch.position
            for raw in batch.records:
                # A record is decoded only where the id stands somewhere in it.
                if wanted in raw and (decision := self._decoded(raw)) is not None:
                    found = decision
        return found

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
