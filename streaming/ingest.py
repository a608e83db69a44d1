"""Files → contract → log → lake, in portions of bounded memory; what is bad goes to quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from feature_repo.contract import Contract, Event, Item, Kind, Record, User, encode
from feature_repo.errors import ContractError, SourceError
from feature_repo.event_types import register, with_registered
from feature_repo.home import Home
from feature_repo.lake import Lake
from feature_repo.settings import Settings
from quality.quarantine import Quarantine
from streaming.door import count_unknown
from streaming.ingest_counts import IngestCounts, KindCounts
from streaming.lake import LakeWriter
from streaming.log import EventLog, key_of, open_log
from streaming.lookup import LakeLookup, id_of, rows_of
from streaming.sources import InputFile, Row, Source, TruncatedError, open_source, raw_bytes

CHUNK_RECORDS = 100_000

Progress: TypeAlias = Callable[[Path, int, int], None]
"""Told the file, the bytes of it read so far and its size."""


class IngestError(SourceError):
    """Files that could not be read at all. The others were ingested.

    Attributes:
        counts: what became of those.
    """

    def __init__(self, message: str, counts: IngestCounts) -> None:
        super().__init__(message)
        self.counts = counts


def ingest(
    paths: Sequence[Path],
    fmt: str,
    settings: Settings,
    kind: Kind | None = None,
    progress: Progress | None = None,
) -> IngestCounts:
    """Ingest files; the same file again changes nothing.

    Args:
        paths: files, or a folder where the format is one of several files.
        fmt: one of `streaming.sources.FORMATS`.
        settings: where the home is and what the contract allows.
        kind: of files of one kind; else read off the columns, or off each record.
        progress: told how far each file is read.

    Raises:
        SourceError: a path does not exist or the format is unknown; nothing was ingested.
        IngestError: whole files were unreadable; the others are ingested.
        LogError, LakeError: the log or lake cannot be written; running it again completes it.
    """
    source = open_source(fmt, with_registered(settings).weights)
    files = [file for path in paths for file in source.files(InputFile(path))]
    home = Home(settings.home).ensure()
    register(home.root, source.event_types)
    settings = with_registered(settings)
    log = open_log(settings, home)
    try:
        ingestion = Ingestion(source, fmt, settings, home, log)
        return ingestion.run(files, kind, progress)
    finally:
        log.close()


def lake_writer(settings: Settings, home: Home, log: EventLog) -> LakeWriter:
    """The writer from this log into this home's lake."""
    quarantine = Quarantine.of(settings, home)
    state = (
        home.lake / f"state-{settings.event_log}.json"
    )  # positions of one sort of log mean nothing to another
    return LakeWriter(Lake(home.lake), log, settings.clock, state, quarantine)


class Ingestion:
    """One run over files of one format."""

    def __init__(self, source: Source, fmt: str, settings: Settings, home: Home, log: EventLog) -> None:
        self._source = source
        self._fmt = fmt
        self._contract = Contract(settings, settings.clock, self._count_unknown)
        self._unknown: Counter[str] = Counter()
        self._quarantine = Quarantine.of(settings, home)
        self._log = log
        self._lake = Lake(home.lake)
        self._writer = lake_writer(settings, home, log)

    def run(self, files: Iterable[InputFile], kind: Kind | None, progress: Progress | None) -> IngestCounts:
        """Ingest file by file."""
        # First what others published, so that it is known here.
        counts = IngestCounts(days=self._writer.sync().days)
        failed: list[str] = []
        for file in files:
            try:
                for portion in self._file(file, kind, progress):
                    counts += portion
            except SourceError as error:
                counts += self._refuse_file(file, kind, error)
                failed.append(str(error))
        if failed:
            raise IngestError("; ".join(failed), counts)
        return counts

    def _count_unknown(self, kind: Kind, names: Sequence[str]) -> None:
        count_unknown(kind, names)
        self._unknown.update(names)

    def _file(self, file: InputFile, kind: Kind | None, progress: Progress | None) -> Iterator[IngestCounts]:
        rows = self._source.rows(file, kind)
        cut: TruncatedError | None = None
        while cut is None:
            chunk: list[Row] = []
            try:
                chunk.extend(islice(rows, CHUNK_RECORDS))
            except TruncatedError as error:
                cut = error
            if not chunk and cut is None:
                break
            yield self._chunk(file.path, chunk, kind)
            if progress is not None:
                progress(file.path, file.done, file.size)
        if cut is not None:
            yield self._refuse_rest(file, kind, cut)

    def _chunk(self, path: Path, rows: Sequence[Row], kind: Kind | None) -> IngestCounts:
        events: dict[tuple[date, str], Event] = {}
        others: list[Item | User] = []
        quarantined = repeated = 0
        for row in rows:
            try:
                record = self._parse(row, kind)
            except ContractError as error:
                self._quarantine.put(raw_bytes(row.raw), str(path), row.line, error, fmt=self._fmt, kind=kind)
                quarantined += 1
                continue
            if not isinstance(record, Event):
                others.append(record)
            elif events.setdefault((record.event_time.date(), record.event_id), record) is not record:
                repeated += 1
        new, known = self._new(events, others)
        if new:
            self._log.publish([(key_of(r), encode(r)) for r in new])
        days = self._writer.sync().days if new else frozenset()
        counts = IngestCounts(read=len(rows), quarantined=quarantined, days=days, unknown=self._unknown)
        self._unknown = Counter()
        kinds = {**counts.kinds}
        for record_kind in kinds:
            kinds[record_kind] = KindCounts(
                sum(1 for r in new if r.kind == record_kind), sum(1 for r in known if r.kind == record_kind)
            )
        kinds["event"] += KindCounts(duplicate=repeated)
        return replace(counts, kinds=kinds)

    def _parse(self, row: Row, kind: Kind | None) -> Record:
        if row.error is not None:
            raise row.error
        return self._contract.parse(self._source.convert(row.raw, kind), kind)

    def _new(
        self, events: dict[tuple[date, str], Event], others: Sequence[Item | User]
    ) -> tuple[list[Record], list[Record]]:
        """The records the lake lacks, and those it has: what it has need not go through the log again."""
        lookup = LakeLookup(self._lake)
        try:
            ids = lookup.known_ids(list(events.values()))
            new: list[Record] = [e for key, e in events.items() if key not in ids]
            known: list[Record] = [e for key, e in events.items() if key in ids]
            for kind in ("item", "user"):
                of_kind = [r for r in others if r.kind == kind]
                newest = lookup.newest(kind, [id_of(r) for r in of_kind])
                for record, row in zip(of_kind, rows_of(kind, of_kind), strict=True):
                    (known if newest.get(id_of(record)) == row else new).append(record)
                    newest[id_of(record)] = row
        finally:
            lookup.close()
        return new, known

    def _refuse_rest(self, file: InputFile, kind: Kind | None, cut: TruncatedError) -> IngestCounts:
        error = ContractError("truncated_file", "", str(cut))
        self._quarantine.put(cut.rest, str(file.path), cut.line, error, fmt=self._fmt, kind=kind)
        return IngestCounts(read=1, quarantined=1, problems=(str(cut),))

    def _refuse_file(self, file: InputFile, kind: Kind | None, error: SourceError) -> IngestCounts:
        reason = ContractError("unreadable_file", "", str(error))
        self._quarantine.put(b"", str(file.path), None, reason, fmt=self._fmt, kind=kind)
        return IngestCounts(read=1, quarantined=1, problems=(str(error),))
