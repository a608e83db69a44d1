"""Ingests files: contract → log → lake, in chunks of bounded memory; bad rows go to quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from feature_repo.contract.event_types import register
from feature_repo.contract.validation import Contract, Event, Item, Kind, Record, User, as_permitted, encode
from feature_repo.errors import ContractError, HeadraceError, SourceError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings, with_registered
from quality.quarantine.store import Quarantine
from streaming.ingest.counts import IngestCounts, KindCounts
from streaming.ingest.denials import denying
from streaming.ingest.event_door import count_unknown
from streaming.ingest.inputs import input_file
from streaming.ingest.lake_lookup import LakeLookup, id_of, rows_of
from streaming.ingest.lake_writer import LakeWriter
from streaming.log import EventLog, key_of, open_log
from streaming.log.log_records import LogRecords
from streaming.sources import InputFile, Noting, Row, Source, TruncatedError, open_source

CHUNK_RECORDS = 100_000
CHUNK_BYTES = 256 << 20

Progress: TypeAlias = Callable[[Path, int, int], None]
"""Called with the file, the bytes read so far and the file's size."""


class IngestError(SourceError):
    """Some files could not be read at all. The others were ingested.

    Attributes:
        refused: a line with the cause for each such file.
        counts: outcome of the other files.
    """

    def __init__(self, refused: Sequence[str], counts: IngestCounts) -> None:
        super().__init__("; ".join(refused))
        self.refused = refused
        self.counts = counts


def ingest(  # noqa: PLR0917 - five are the command's
    paths: Sequence[Path],
    fmt: str,
    settings: Settings,
    kind: Kind | None = None,
    progress: Progress | None = None,
    names: Mapping[Path, str] | None = None,
) -> IngestCounts:
    """Ingest files. Ingesting the same file again changes nothing.

    Args:
        paths: files, or a folder if the format consists of several files.
        fmt: one of `streaming.sources.format_names`, or a mapping (see `streaming.mapping.saved`).
        settings: the home and the limits of the contract.
        kind: kind of the records, if all have one kind; otherwise found from the columns or each record.
        progress: called with how far each file has been read.
        names: original locations of paths that were fetched from elsewhere.

    Raises:
        SourceError: a path does not exist or the format is unknown; nothing was ingested.
        IngestError: some files were unreadable; the others are ingested.
        LogError, LakeError: the log or lake cannot be written; run it again to complete it.
    """
    home = Home(settings.home)
    source = open_source(fmt, with_registered(settings).weights, home.mappings)
    files = [file for path in paths for file in source.files(input_file(path, settings, names or {}))]
    home.ensure()
    register(home.root, source.event_types)
    settings = with_registered(settings)
    log = open_log(settings, home)
    try:
        ingestion = Ingestion(source, fmt, settings, home, log)
        return ingestion.run(files, kind, progress)
    finally:
        log.close()


def lake_writer(settings: Settings, home: Home, log: EventLog) -> LakeWriter:
    """Create the writer from this log to this home's lake."""
    quarantine = Quarantine.of(settings, home)
    state = home.lake / f"state-{settings.event_log}.json"  # each sort of log has its own positions
    records = LogRecords(settings, settings.clock)
    return LakeWriter(Lake(home.lake), log, settings.clock, state, quarantine, records=records)


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
        # Sync first, so that what others published is known here.
        counts = IngestCounts(days=self._writer.sync().days)
        failed: list[str] = []
        for file in files:
            try:
                for portion in self._file(file, kind, progress):
                    counts += portion
            except SourceError as error:
                counts += self._refuse_file(file, kind, error)
                failed.append(file.named(" ".join(str(error).split())))
        counts += IngestCounts(notes=self._source.notes() if isinstance(self._source, Noting) else ())
        if failed:
            raise IngestError(failed, counts)
        return counts

    def _count_unknown(self, kind: Kind, names: Sequence[str]) -> None:
        count_unknown(kind, names)
        self._unknown.update(names)

    def _file(self, file: InputFile, kind: Kind | None, progress: Progress | None) -> Iterator[IngestCounts]:
        rows = self._rows(file, kind)
        stop: SourceError | None = None
        read = 0
        while stop is None:
            chunk: list[Row] = []
            try:
                _fill(chunk, rows)
            except SourceError as error:
                stop = error
            except Exception as error:  # a library failed on unforeseen bytes: read the other files
                stop = SourceError(f"{file.path}: cannot be read ({type(error).__name__}: {error})")
            read += len(chunk)
            if chunk:
                yield self._chunk(file, chunk, kind)
            elif stop is None:
                break
            if progress is not None:
                progress(file.path, file.done, file.size)
        if isinstance(stop, TruncatedError) and read:
            yield self._refuse_rest(file, kind, stop)
        elif stop is not None:
            raise stop
        elif not read:
            yield IngestCounts(problems=(f"{file.name}: no record in it",))

    def _rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Yield the rows; opening the file is part of reading, so that it fails where reading may fail."""
        yield from self._source.rows(file, kind)

    def _chunk(self, file: InputFile, rows: Sequence[Row], kind: Kind | None) -> IngestCounts:
        events: dict[tuple[date, str], Event] = {}
        others: list[Item | User] = []
        reasons: Counter[str] = Counter()
        problems: list[str] = []
        repeated = 0
        for row in rows:
            try:
                record = self._parse(row, kind)
            except ContractError as error:
                self._reject(row, file, kind, error)
                reasons[error.code] += 1
                if error.code == "unreadable_rows":
                    problems.append(str(error))
                continue
            if not isinstance(record, Event):
                others.append(record)
            elif events.setdefault((record.event_time.date(), record.event_id), record) is not record:
                repeated += 1
        new, known = self._new(events, others)
        if new:
            self._log.publish([(key_of(r), encode(r)) for r in new])
        days = self._writer.sync().days if new else frozenset()
        counts = IngestCounts(
            read=len(rows),
            quarantined=reasons.total(),
            days=days,
            unknown=self._unknown,
            problems=tuple(problems),
            reasons=reasons,
        )
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
        try:
            return self._contract.parse(self._source.convert(row.raw, kind), kind)
        except HeadraceError:
            raise
        except Exception as error:  # an unforeseen value must not stop the rows after it
            msg = f"cannot be read ({type(error).__name__}: {error})"
            raise ContractError("unreadable_row", "", msg) from error

    def _reject(self, row: Row, file: InputFile, kind: Kind | None, error: ContractError) -> None:
        layout = row.layout
        self._quarantine.put(
            row.original,
            file.name,
            row.line,
            error,
            fmt=self._fmt,
            kind=kind or (layout.kind if layout else None),
            layout=layout.fields() if layout and layout.columns else None,
        )

    def _new(
        self, events: dict[tuple[date, str], Event], others: Sequence[Item | User]
    ) -> tuple[list[Record], list[Record]]:
        """Split records into new ones and those the lake has, which need not go through the log again.

        Queries of users who deny consent are removed.
        """
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
            denied = denying([*new, *others], lookup.denying)
            new = [as_permitted(record, denied) for record in new]
        finally:
            lookup.close()
        return new, known

    def _refuse_rest(self, file: InputFile, kind: Kind | None, cut: TruncatedError) -> IngestCounts:
        error = ContractError("truncated_file", "", file.named(str(cut)))
        self._quarantine.put(cut.rest, file.name, cut.line, error, fmt=self._fmt, kind=kind)
        return IngestCounts(read=1, quarantined=1, problems=(str(error),), reasons={error.code: 1})

    def _refuse_file(self, file: InputFile, kind: Kind | None, error: SourceError) -> IngestCounts:
        reason = ContractError("unreadable_file", "", file.named(str(error)))
        self._quarantine.put(b"", file.name, None, reason, fmt=self._fmt, kind=kind)
        return IngestCounts(
            read=1, quarantined=1, problems=(str(reason),), reasons={reason.code: 1}, refused=1
        )


def _fill(chunk: list[Row], rows: Iterator[Row]) -> None:
    """Append rows up to a chunk's number and size; rows already appended stay if reading fails."""
    room = CHUNK_BYTES
    for row in islice(rows, CHUNK_RECORDS):
        chunk.append(row)
        room -= len(row.raw) if isinstance(row.raw, bytes) else len(row.kept or b"") or 1_000
        if room < 0:
            return
