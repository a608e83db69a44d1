"""Writes the log to the lake: Parquet by event day, atomically, each event once, even after crashes."""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from feature_repo.contract.validation import Event, Item, Kind, Record, User, as_permitted
from feature_repo.errors import ContractError, LakeError
from feature_repo.lake.lake import Lake
from quality.quarantine.store import Quarantine
from streaming.ingest.denials import denying
from streaming.ingest.lake_counts import SyncCounts
from streaming.ingest.lake_lookup import LakeLookup, id_of, rows_of
from streaming.ingest.lake_state import SyncState
from streaming.ingest.lake_tables import ANY_TIME, UnfitError, fitting, table_of
from streaming.ingest.parquet_folder import ParquetFolder
from streaming.log import Batch, Damage, EventLog, Position, PositionLostError, where
from streaming.log.log_records import LogRecords

__all__ = ["LakeWriter", "SyncCounts"]

_logger = logging.getLogger(__name__)

FLUSH_RECORDS = 100_000
"""Records held in memory at a time; each flush becomes visible atomically, day by day."""
_READ = 10_000
_OfPartition: TypeAlias = tuple[int, Batch]


class LakeWriter:
    """Moves new log records to the lake. One process at a time; a second one waits.

    The state file is written after the Parquet files it refers to. After a crash in between, the same records
    are read again and found in the lake, so nothing is lost or duplicated.

    Args:
        lake: the lake to write.
        log: the log to read.
        clock: gives ``ingested_at``, which is kept ascending so that the newest item or user wins.
        state: file with the positions reached.
        quarantine: receives records that cannot be read or written; without it they are only counted.
        records: decodes log records.
    """

    def __init__(
        self,
        lake: Lake,
        log: EventLog,
        clock: Callable[[], datetime],
        state: Path,
        quarantine: Quarantine | None = None,
        *,
        records: LogRecords | None = None,
    ) -> None:
        self._lake = lake
        self._log = log
        self._clock = clock
        self._state = state
        self._quarantine = quarantine
        self._upgraded = False
        self._records = records or LogRecords()

    def sync(self) -> SyncCounts:
        """Write everything added to the log since the last sync.

        Raises:
            LakeError: the lake cannot be read or written; rows written before stay, and the next sync
                continues from there.
            LogError: the log cannot be read.
        """
        counts = SyncCounts()
        with self._alone():
            self._upgrade()
            lookup = LakeLookup(self._lake)
            try:
                state = SyncState.load(self._state)
                for batches, positions in self._pending(state.positions):
                    state = SyncState(positions, state.later(self._clock()))
                    try:
                        counts += self._flush(batches, lookup, state.ingested_at)
                    except UnfitError:
                        counts += self._flush(batches, lookup, state.ingested_at, each=True)
                    counts += SyncCounts(quarantined=sum(self._report(batch.damaged) for _, batch in batches))
                    state.save(self._state)
            finally:
                lookup.close()
        return counts

    def _upgrade(self) -> None:
        if not self._upgraded:
            for kind in ("item", "user"):
                ParquetFolder(self._lake.folder(kind), kind).upgrade()
            self._upgraded = True

    def prune(self, older_than: timedelta) -> int:
        """Remove event days this far before the newest one; return how many.

        Age is counted in event time: a history ingested today is as old as its events.
        """
        removed = 0
        with self._alone():
            days = self._lake.days()
            horizon = days[-1] - older_than if days else None
            for day in days:
                if horizon is not None and day < horizon:
                    folder = self._lake.events_of(day)
                    aside = folder.with_name(f".{folder.name}.removed")
                    folder.rename(aside)  # readers no longer see it, even if deletion fails
                    shutil.rmtree(aside)
                    removed += 1
        return removed

    def _pending(
        self, positions: dict[int, Position]
    ) -> Iterator[tuple[list[_OfPartition], dict[int, Position]]]:
        """Yield chunks of the log beyond these positions, each with the positions after it."""
        reached = {n: positions.get(n) or self._log.start(n) for n in range(self._log.partitions)}
        batches: list[_OfPartition] = []
        for partition in list(reached):
            ended = False
            while not ended:
                batch = self._read(partition, reached[partition])
                batches.append((partition, batch))
                ended = batch.position == reached[partition]
                reached[partition] = batch.position
                if sum(len(batch.records) + len(batch.damaged) for _, batch in batches) >= FLUSH_RECORDS:
                    yield batches, dict(reached)
                    batches = []
        if any(b.records or b.damaged for _, b in batches) or reached != positions:
            yield batches, dict(reached)

    def _read(self, partition: int, position: Position) -> Batch:
        try:
            return self._log.read(partition, position, _READ)
        except PositionLostError as error:
            _logger.warning("%s; reading from the start; the lake skips what it has", error)
            return self._log.read(partition, self._log.start(partition), _READ)

    def _flush(
        self,
        batches: Sequence[_OfPartition],
        lookup: LakeLookup,
        ingested_at: datetime,
        each: bool = False,
    ) -> SyncCounts:
        """Write records.

        Args:
            each: convert records one by one, and put aside those that do not fit.

        Raises:
            UnfitError: a record does not fit; only `each` finds out which.
        """
        events: dict[tuple[date, str], Event] = {}
        items: dict[str, Item | User] = {}
        users: dict[str, Item | User] = {}
        whole = unreadable = superseded = 0
        for record in self._decoded(batches, each):
            if record is None:
                unreadable += 1
                continue
            whole += 1
            if isinstance(record, Event):
                events.setdefault((record.event_time.date(), record.event_id), record)
            else:
                newest = items if isinstance(record, Item) else users
                superseded += id_of(record) in newest
                newest[id_of(record)] = record
        if denied := denying([*events.values(), *users.values()], lookup.denying):
            events = {key: as_permitted(event, denied) for key, event in events.items()}
        counts = self._write_events(events, lookup, ingested_at)
        counts += self._write_newest("item", items, lookup, ingested_at)
        counts += self._write_newest("user", users, lookup, ingested_at)
        repeated = whole - superseded - counts.events - counts.items - counts.users
        return replace(counts, duplicates=repeated, quarantined=unreadable)

    def _write_events(
        self, events: dict[tuple[date, str], Event], lookup: LakeLookup, ingested_at: datetime
    ) -> SyncCounts:
        known = lookup.known_ids(list(events.values()))
        new = sorted((e for key, e in events.items() if key not in known), key=attrgetter("event_time"))
        table = table_of("event", new, ingested_at)
        at, days = 0, Counter(e.event_time.date() for e in new)
        for day, count in sorted(days.items()):
            ParquetFolder(self._lake.events_of(day)).add(table.slice(at, count))
            at += count
        return SyncCounts(events=len(new), days=frozenset(days))

    def _write_newest(
        self, kind: Kind, newest: dict[str, Item | User], lookup: LakeLookup, ingested_at: datetime
    ) -> SyncCounts:
        known = lookup.newest(kind, list(newest))
        with fitting():
            rows = rows_of(kind, list(newest.values()))
        changed = [r for r, row in zip(newest.values(), rows, strict=True) if known.get(id_of(r)) != row]
        if changed:
            ParquetFolder(self._lake.folder(kind), kind).add(table_of(kind, changed, ingested_at))
        return SyncCounts(items=len(changed)) if kind == "item" else SyncCounts(users=len(changed))

    def _decoded(self, batches: Sequence[_OfPartition], each: bool) -> Iterator[Record | None]:
        """Yield each record; `None` for one that is put aside."""
        for partition, batch in batches:
            for n, raw in enumerate(batch.records):
                try:
                    record = self._records.read(raw)
                    if each:
                        table_of(record.kind, [record], ANY_TIME)
                    yield record
                except (ContractError, UnfitError) as error:
                    if not isinstance(error, ContractError):
                        error = ContractError("not_storable", "", f"log record: {error}")
                    if self._quarantine is not None:
                        place = batch.places[n] if batch.places else None
                        self._quarantine.put(raw, *where(partition, place), error)
                    yield None

    def _report(self, damaged: Sequence[Damage]) -> int:
        for stretch in damaged:
            error = ContractError(
                "damaged_log", "", f"{stretch.source} at {stretch.offset}: {stretch.reason}"
            )
            if self._quarantine is not None:
                self._quarantine.put(stretch.raw, stretch.source, stretch.offset, error)
        return len(damaged)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            with self._state.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except (OSError, pa.ArrowException) as error:
            why = getattr(error, "strerror", None) or error
            msg = (
                f"lake {self._lake.root}: cannot write ({why}); free space, or point HEADRACE_HOME elsewhere"
            )
            raise LakeError(msg) from error
