"""Replays quarantined records after a fix: once each, idempotently, through the same log and lake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from feature_repo.contract.event_types import register
from feature_repo.contract.validation import Contract, Record, as_permitted, encode
from feature_repo.errors import ContractError, SourceError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings, with_registered
from quality.quarantine.store import Entry, Quarantine
from streaming.ingest.denials import Denying, denying
from streaming.ingest.event_door import count_unknown
from streaming.ingest.files import lake_writer
from streaming.ingest.lake_lookup import LakeLookup
from streaming.log import EventLog, key_of, open_log
from streaming.mapping.saved import FORMAT, format_of
from streaming.mapping.source import MappedSource
from streaming.sources import Raw, Source, open_source
from streaming.sources.formats.headrace import read_cells
from streaming.sources.plain import Layout

NOT_RECORDS = frozenset(
    {
        "truncated_file",
        "unreadable_file",
        "unreadable_rows",
        "unreadable_cell",
        "row_too_long",
        "damaged_log",
        "bad_csv_row",
        "not_utf8",
    }
)
"""Reasons for which the kept bytes are not a whole record: fix the source and ingest it again."""

_AT_ONCE = 10_000


@dataclass(frozen=True)
class RetryCounts:
    """Outcome of the pending records.

    Attributes:
        replayed: published, and marked so that they are not replayed again.
        failed: records that still break the contract; they stay pending.
        skipped: incomplete records, whose source needs fixing.
    """

    replayed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """Number of records processed."""
        return self.replayed + self.failed + self.skipped

    def __add__(self, other: RetryCounts) -> RetryCounts:
        return RetryCounts(
            self.replayed + other.replayed, self.failed + other.failed, self.skipped + other.skipped
        )


def retry(
    settings: Settings, code: str | None = None, prefix: str = "", mapping: str | None = None
) -> RetryCounts:
    """Replay the pending records in quarantine.

    After a crash, the next run publishes some records a second time; lake and stream drop them by event id.

    Args:
        settings: the settings after the fix.
        code: only records rejected for this reason.
        prefix: only records whose id starts with this.
        mapping: preset or file used to read mapped records, instead of the mapping they were ingested with.

    Raises:
        SourceError: `mapping` is not a mapping.
        LogError, LakeError: log or lake cannot be written; no record of that chunk is marked.
    """
    home = Home(settings.home).ensure()
    fixed = None if mapping is None else format_of(mapping, home.mappings)
    if fixed is not None:
        register(home.root, open_source(fixed, settings.weights, home.mappings).event_types)
        settings = with_registered(settings)
    quarantine = Quarantine.of(settings, home)
    pending = (e for e in quarantine.entries(code=code, pending=True) if e.id.startswith(prefix))
    contract = Contract(settings, settings.clock, count_unknown)
    sources = _Sources(contract, home.mappings, fixed)
    log = open_log(settings, home)
    counts = RetryCounts()
    lookup = LakeLookup(Lake(home.lake))
    try:
        for portion in _portions(pending):
            counts += _replay(portion, sources, log, quarantine, lookup.denying)
        if counts.replayed:
            lake_writer(settings, home, log).sync()
    finally:
        lookup.close()
        log.close()
    return counts


def _portions(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    source = iter(entries)
    while portion := list(islice(source, _AT_ONCE)):
        yield portion


def _replay(
    entries: list[Entry], sources: _Sources, log: EventLog, quarantine: Quarantine, known: Denying
) -> RetryCounts:
    passed: list[Entry] = []
    records: list[Record] = []
    skipped = 0
    for entry in entries:
        if entry.code in NOT_RECORDS:
            skipped += 1
            continue
        try:
            found = list(sources.records(entry))
            for record in found:
                encode(record)  # a record that cannot be written stays pending
        except (ContractError, SourceError, UnicodeError, RecursionError, OverflowError):
            continue
        records += found
        passed.append(entry)
    if records:
        denied = denying(records, known)
        log.publish([(key_of(r), encode(as_permitted(r, denied))) for r in records])
    if passed:  # a row that the corrected mapping leaves out gives no record
        quarantine.mark_retried(passed)
    return RetryCounts(len(passed), len(entries) - len(passed) - skipped, skipped)


class _Sources:
    """The formats of kept records, each opened once."""

    def __init__(self, contract: Contract, mappings: Path, fixed: str | None) -> None:
        self._contract = contract
        self._mappings = mappings
        self._fixed = fixed
        self._open: dict[str, Source] = {}

    def records(self, entry: Entry) -> list[Record]:
        """Read the records of a kept row: one, or those that its mapping gives.

        Raises:
            ContractError: one of them breaks the contract.
            SourceError: the format is unknown, or its saved mapping is gone.
        """
        source = self._source(entry.format)
        layout = None if entry.layout is None else Layout.of(entry.layout)
        if isinstance(source, MappedSource):
            found = source.reread(entry.raw, layout, entry.kind, entry.source)
            return [self._contract.parse(record) for record in found]
        raw: Raw = entry.raw if layout is None else read_cells(entry.raw, layout)
        return [self._contract.parse(source.convert(raw, entry.kind), entry.kind)]

    def _source(self, fmt: str) -> Source:
        name = self._fixed if self._fixed is not None and fmt.startswith(FORMAT) else fmt
        if name not in self._open:
            self._open[name] = open_source(name, self._contract.weights, self._mappings)
        return self._open[name]
