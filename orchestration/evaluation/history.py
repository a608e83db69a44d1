"""History to replay: events in time order with facts of items and users, from a file or the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from feature_repo.catalogue import Catalogue, catalogue_of
from feature_repo.clock_skew import TOLERANCE, after_their_requests, no_later_than, tolerance_of
from feature_repo.consent import permitted
from feature_repo.contract.validation import Contract, Event, Item, Kind, Record, User, from_arrow
from feature_repo.errors import ContractError, SourceError
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from streaming.sources import InputFile, Limits, TruncatedError, open_source

REPORT_EVERY = 2000
Progress = Callable[[str, int, int], None]
"""Called with the step, how much of it is done, and the total."""


def silent(step: str, done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class History:
    """Past events and the records needed to replay them.

    Attributes:
        events: each event once, in time order; equal times in the order read.
        catalogue: facts of the items, from each one's newest record, as items have no event time.
        users: newest record of each declared user.
        weights: engagement weight by event type.
        duplicates, rejected: records left out because their id repeats, or because they break the contract.
        consent_default: applies if neither an event nor its user states consent.
    """

    events: tuple[Event, ...]
    catalogue: Catalogue
    users: dict[str, User]
    weights: dict[str, float]
    duplicates: int = 0
    rejected: int = 0
    consent_default: bool = True

    @property
    def span(self) -> timedelta:
        """Return the time from the first event to the last."""
        return self.events[-1].event_time - self.events[0].event_time if self.events else timedelta(0)

    def permits(self, event: Event) -> bool:
        """Return whether an event may be used to personalize; users who deny consent today are left out."""
        user = None if event.user_id is None else self.users.get(event.user_id)
        return permitted(event.consent, None if user is None else user.consent, self.consent_default)

    def engages(self, event: Event) -> bool:
        """Return whether an event is an engagement with an item."""
        return event.item_id is not None and self.weights.get(event.event_type, 0.0) > 0


@dataclass
class _Gathering:
    events: dict[str, Event] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    duplicates: int = 0
    rejected: int = 0

    def take(self, record: Record) -> None:
        if isinstance(record, Event):
            if self.events.setdefault(record.event_id, record) is not record:
                self.duplicates += 1
        elif isinstance(record, Item):
            self.items[record.item_id] = record
        else:
            self.users[record.user_id] = record

    def history(self, settings: Settings) -> History:
        ordered = after_their_requests(self.events.values(), tolerance_of(settings))
        catalogue = catalogue_of(self.items.values())
        return History(
            tuple(ordered),
            catalogue,
            self.users,
            settings.weights,
            self.duplicates,
            self.rejected,
            settings.consent_default,
        )


def read_history(path: Path, fmt: str, settings: Settings, progress: Progress = silent) -> History:
    """Read the history in a file; count and leave out rejected records.

    Raises:
        SourceError: the path or format is unknown, the file is damaged, or it has no event.
    """
    source = open_source(fmt, settings.weights)
    extended = {**source.event_types, **settings.event_weights}
    settings = settings.model_copy(update={"event_weights": extended})
    source = open_source(fmt, settings.weights)
    contract = Contract(settings, settings.clock)
    found = _Gathering()
    tolerance = tolerance_of(settings)
    for file in source.files(InputFile(path, Limits.of(settings))):
        try:
            for row in source.rows(file, None):
                try:
                    if row.error is not None:
                        raise row.error
                    record = contract.parse(source.convert(row.raw, None), None)
                    found.take(_as_it_came(record, settings.clock(), tolerance))
                except ContractError:
                    found.rejected += 1
                if row.line % REPORT_EVERY == 0:
                    progress(f"read {file.path.name}", file.done, file.size)
        except TruncatedError as error:
            msg = f"{error}; an evaluation needs the whole file"
            raise SourceError(msg) from error
        progress(f"read {file.path.name}", file.size, file.size)
    if not found.events:
        msg = f"{path}: no valid event in it ({found.rejected} records rejected); is --format {fmt} right?"
        raise SourceError(msg)
    return found.history(settings)


def lake_history(lake: Lake, settings: Settings, max_events: int, progress: Progress = silent) -> History:
    """Read the lake's newest whole days with about `max_events` events."""
    found = _Gathering()
    for record in _records(lake, "item", lake.files("item")):
        found.take(record)
    for record in _records(lake, "user", lake.files("user")):
        found.take(record)
    days, tolerance = _newest_days(lake, max_events), tolerance_of(settings)
    for done, day in enumerate(days):
        for record in _records(lake, "event", lake.files("event", day, _next(day)), tolerance):
            found.take(record)
        progress("read the lake", done + 1, len(days))
    return found.history(settings)


def _newest_days(lake: Lake, max_events: int) -> list[date]:
    days: list[date] = []
    count = 0
    for day in reversed(lake.days()):
        if days and count >= max_events:
            break
        days.append(day)
        count += sum(pq.read_metadata(f).num_rows for f in lake.files("event", day, _next(day)))
    return sorted(days)


def _next(day: date) -> date:
    return date.fromordinal(day.toordinal() + 1)


def _as_it_came(record: Record, came: datetime | None, tolerance: timedelta) -> Record:
    if not isinstance(record, Event):
        return record
    counted = no_later_than(record.event_time, came, tolerance)
    return record if counted is record.event_time else msgspec.structs.replace(record, event_time=counted)


def _records(
    lake: Lake, kind: Kind, files: Iterable[str], tolerance: timedelta = TOLERANCE
) -> Iterable[Record]:
    """Yield the records of files, oldest ingested first, so that the newest of an id comes last."""
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    rows.sort(key=lambda row: row["ingested_at"] or datetime.min.replace(tzinfo=UTC))
    return (_as_it_came(from_arrow(kind, row), row["ingested_at"], tolerance) for row in rows)
