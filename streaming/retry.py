"""Quarantined records replayed after a fix: once each, idempotently, through the same log and lake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from feature_repo.contract import Contract, Record, encode
from feature_repo.errors import ContractError
from feature_repo.home import Home
from feature_repo.settings import Settings
from quality.quarantine import Entry, Quarantine
from streaming.door import count_unknown
from streaming.ingest import lake_writer
from streaming.log import EventLog, Keyed, key_of, open_log
from streaming.sources import Raw, open_source
from streaming.sources.headrace import read_cells
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
"""Reasons for which what is kept is no whole record: mend the source and ingest it again."""

_AT_ONCE = 10_000


@dataclass(frozen=True)
class RetryCounts:
    """What became of the pending records.

    Attributes:
        replayed: published, and marked so that they are not replayed again.
        failed: still break the contract; they stay pending.
        skipped: no whole records; their source is to be mended.
    """

    replayed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """Records looked at."""
        return self.replayed + self.failed + self.skipped

    def __add__(self, other: RetryCounts) -> RetryCounts:
        return RetryCounts(
            self.replayed + other.replayed, self.failed + other.failed, self.skipped + other.skipped
        )


def retry(settings: Settings, code: str | None = None, prefix: str = "") -> RetryCounts:
    """Replay what is pending in quarantine.

    Killed in between, the next run publishes some records a second time; lake and stream drop them by their
    event id.

    Args:
        settings: as fixed meanwhile.
        code: only records rejected for this reason.
        prefix: only records whose id begins with this.

    Raises:
        LogError, LakeError: log or lake cannot be written; nothing of that portion is marked.
    """
    home = Home(settings.home).ensure()
    quarantine = Quarantine.of(settings, home)
    pending = (e for e in quarantine.entries(code=code, pending=True) if e.id.startswith(prefix))
    contract = Contract(settings, settings.clock, count_unknown)
    log = open_log(settings, home)
    counts = RetryCounts()
    try:
        for portion in _portions(pending):
            counts += _replay(portion, contract, log, quarantine)
        if counts.replayed:
            lake_writer(settings, home, log).sync()
    finally:
        log.close()
    return counts


def _portions(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    source = iter(entries)
    while portion := list(islice(source, _AT_ONCE)):
        yield portion


def _replay(entries: list[Entry], contract: Contract, log: EventLog, quarantine: Quarantine) -> RetryCounts:
    passed: list[Entry] = []
    records: list[Keyed] = []
    skipped = 0
    for entry in entries:
        if entry.code in NOT_RECORDS:
            skipped += 1
            continue
        try:
            record = _parse(entry, contract)
            records.append((key_of(record), encode(record)))
        except (ContractError, UnicodeError, RecursionError, OverflowError):
            continue
        passed.append(entry)
    if records:
        log.publish(records)
        quarantine.mark_retried(passed)
    return RetryCounts(len(passed), len(entries) - len(passed) - skipped, skipped)


def _parse(entry: Entry, contract: Contract) -> Record:
    source = open_source(entry.format, contract.weights)
    raw: Raw = entry.raw
    if entry.layout is not None:
        raw = read_cells(entry.raw, Layout.of(entry.layout))
    return contract.parse(source.convert(raw, entry.kind), entry.kind)
