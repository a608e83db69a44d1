"""`headrace backfill sessions`: the stream's flow over the lake, its rows kept as training history.

Source and sink differ from the live flow, nothing else. A row is written per event folded, stamped with that
event's time, so that a point-in-time join finds the session as it was at any moment.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from bytewax.testing import run_main
from prometheus_client import CollectorRegistry

from feature_repo.clock import Clock, time_of
from feature_repo.clock_skew import TOLERANCE, ahead_of, tolerance_of
from feature_repo.contract.validation import arrow_schema, encode, from_arrow
from feature_repo.errors import LakeError, SourceError
from feature_repo.group import SESSION, FeatureGroup
from feature_repo.groups import stream_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.online import EncodedRow, decode_value, layout_of
from feature_repo.settings import Settings
from streaming.dataflow.flow_metrics import StreamMetrics
from streaming.dataflow.graph import build_flow
from streaming.dataflow.log_source import SourceRules
from streaming.dataflow.opening import shard_tools
from streaming.dataflow.operators import FlowParts
from streaming.dataflow.store_writer import WriteJob
from streaming.dataflow.stream_errors import own_error
from streaming.log import Batch, Keyed, Position

Day: TypeAlias = tuple[FeatureGroup, date]
_CHUNK = 1000
_ROW_GROUP = 50_000


class LakeLog:
    """Events of the lake as an `EventLog` of one partition, in order of time. It reads forward only.

    Args:
        start, end: days, the last one exclusive.
        read_day: called with each day before its events are read.
        tolerance: an event stamped further ahead of when it came counts as of when it came.
    """

    partitions = 1

    def __init__(
        self,
        lake: Lake,
        start: date,
        end: date,
        read_day: Callable[[date], None],
        tolerance: timedelta = TOLERANCE,
    ) -> None:
        self._lake = lake
        self._start, self._end = start, end
        self._read_day = read_day
        self._tolerance = tolerance
        self._records = self._all()
        self._at = 0

    def _all(self) -> Iterator[bytes]:
        ahead = self._ahead()
        days = {*self._lake.days(), *ahead}
        for day in sorted(day for day in days if self._start <= day < self._end):
            self._read_day(day)
            table = self._read_files(day)
            own = table.filter(pc.invert(ahead_of(table, self._tolerance)))
            table = pa.concat_tables([own, *ahead.get(day, [])], promote_options="default")
            table = table.sort_by([("event_time", "ascending"), ("event_id", "ascending")])
            for batch in table.to_batches(max_chunksize=_CHUNK):
                for row in batch.to_pylist():
                    yield _record_of(row)

    def _read_files(self, day: date, columns: list[str] | None = None) -> pa.Table:
        files = self._lake.files_of(day)
        if not files:
            return arrow_schema("event").empty_table()
        try:
            return pa.concat_tables(
                [pq.read_table(file, columns=columns) for file in files], promote_options="default"
            )
        except (OSError, pa.ArrowInvalid) as error:
            msg = f"lake: events of {day} cannot be read ({error}); ingest the day again"
            raise LakeError(msg) from error

    def _ahead(self) -> dict[date, list[pa.Table]]:
        """Events stamped ahead of when they came, by the day they came; they may lie in later days' files."""
        found: dict[date, list[pa.Table]] = {}
        for day in self._lake.days():
            if day < self._start:
                continue
            times = self._read_files(day, ["event_time", "ingested_at"])
            if not pc.any(ahead_of(times, self._tolerance)).as_py():
                continue
            table = self._read_files(day)
            table = table.filter(ahead_of(table, self._tolerance))
            place = table.schema.get_field_index("event_time")
            table = table.set_column(place, table.schema.field(place), table["ingested_at"])
            came = pc.cast(table["event_time"], pa.date32())
            for value in pc.unique(came).to_pylist():
                found.setdefault(value, []).append(table.filter(pc.equal(came, pa.scalar(value))))
        return found

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        """The next records; `position` must be the place the last read ended at."""
        if int(position) != self._at:
            msg = f"lake: read from {position} where {self._at} is next; a lake is read forward once"
            raise LakeError(msg)
        records = list(islice(self._records, limit))
        self._at += len(records)
        return Batch(records, str(self._at))

    def start(self, partition: int) -> Position:
        """Where reading begins."""
        return "0"

    def end(self, partition: int) -> Position:
        """Where reading has come to."""
        return str(self._at)

    def publish(self, records: Sequence[Keyed]) -> None:
        """Not for writing."""
        raise NotImplementedError

    def trim(self, older_than: timedelta) -> int:
        """Nothing is removed."""
        return 0

    def close(self) -> None:
        """Nothing is held."""


def _record_of(row: dict[str, Any]) -> bytes:
    """A row of the lake as a record; one that is none as text, which the fold puts aside with the reason."""
    try:
        return encode(from_arrow("event", row))
    except (msgspec.ValidationError, UnicodeError, OverflowError, TypeError, ValueError):
        return json.dumps(row, default=str).encode()


@dataclass
class HistoryWriter:
    """A sink that keeps rows of groups as one Parquet file per group and day, in the group's Arrow schema.

    Args:
        first: rows of events before this day only warm up sessions that run into it.
    """

    builds: Builds
    groups: Sequence[FeatureGroup]
    first: date
    created: datetime
    rows: dict[date, int] = field(default_factory=dict)
    _pending: dict[Day, dict[tuple[str, int], EncodedRow]] = field(default_factory=dict)
    _files: dict[Day, tuple[pq.ParquetWriter, Path, Path]] = field(default_factory=dict)

    def write(self, jobs: Sequence[WriteJob]) -> None:
        """Take the rows of jobs; of several with one event time the last counts."""
        for job in jobs:
            if job.group not in self.groups:
                continue
            for row in job.rows:
                day = time_of(row.micros).date()
                if day >= self.first:
                    pending = self._pending.setdefault((job.group, day), {})
                    pending[row.key, row.micros] = row
                    if len(pending) >= _ROW_GROUP:
                        self._flush((job.group, day))

    def flush(self) -> None:
        """Nothing is promised before `finish`."""

    def finish(self) -> dict[date, int]:
        """Complete the files, each renamed into place whole; rows by day."""
        for day in list(self._pending):
            self._flush(day)
        for writer, aside, path in self._files.values():
            writer.close()
            aside.replace(path)
        self._files.clear()
        return self.rows

    def abort(self) -> None:
        """Remove what was not finished."""
        for writer, aside, _ in self._files.values():
            writer.close()
            aside.unlink(missing_ok=True)
        self._files.clear()

    def _flush(self, of: Day) -> None:
        group, day = of
        rows = list(self._pending.pop(of).values())
        layout = layout_of(group)
        columns = {group.entity.join_key: [row.key for row in rows]}
        raws = [row.values for row in rows]
        for n, name in enumerate(layout.names):
            columns[name] = [decode_value(values[n]) for values in raws]
        times = [time_of(row.micros) for row in rows]
        schema = group.arrow_schema
        arrays = [pa.array(columns[f.name], f.type) for f in list(schema)[:-2]]
        arrays += [pa.array(times, schema[-2].type), pa.array([self.created] * len(rows), schema[-1].type)]
        if of not in self._files:
            self._files[of] = self._open(group, day)
        self._files[of][0].write_table(pa.Table.from_arrays(arrays, schema=schema))
        self.rows[day] = self.rows.get(day, 0) + len(rows)

    def _open(self, group: FeatureGroup, day: date) -> tuple[pq.ParquetWriter, Path, Path]:
        as_of = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        path = self.builds.path(group.name, as_of, group.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.tmp")
        return pq.ParquetWriter(aside, group.arrow_schema, compression="zstd"), aside, path


def backfill_sessions(
    settings: Settings,
    first: date,
    last: date,
    clock: Clock | None = None,
    read_day: Callable[[date], None] = lambda day: None,
) -> dict[date, int]:
    """Write the history of the groups of sessions for ``first … last`` (inclusive); rows by day.

    Reading begins a time-to-live earlier, so that sessions that run into the first day are whole. Running it
    again replaces a day's file whole.

    Raises:
        SourceError: the lake holds no event of those days.
        LakeError: a day cannot be read; no file of this run stays.
    """
    home = Home(settings.home).ensure()
    lake = Lake(home.lake)
    if not any(first <= day <= last for day in lake.days()):
        held = lake.days()
        known = f"{held[0]} … {held[-1]}" if held else "no day at all"
        msg = f"{home.lake}: no events of {first} … {last}; the lake holds {known}. Ingest first"
        raise SourceError(msg)
    warm_up = timedelta(days=-(-int(settings.session_ttl_s) // 86_400))
    log = LakeLog(lake, first - warm_up, last + timedelta(days=1), read_day, tolerance_of(settings))
    now = clock or settings.clock
    sink = HistoryWriter(Builds(home.features), tuple(stream_groups(SESSION).values()), first, now())
    with ExitStack() as stack:
        stack.callback(sink.abort)
        state = stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-backfill-"))
        parts = FlowParts(
            log=log,
            source=SourceRules(_CHUNK, 0.0, 1.0, to_end=True),
            tools=replace(shard_tools(settings, home, clock=now), every_event=True),
            state=Path(state),
            sink=sink,
            metrics=StreamMetrics.register(CollectorRegistry()),
            stop=threading.Event(),
        )
        try:
            run_main(build_flow(parts))
        except Exception as error:
            raise own_error(error) or error from None
        return sink.finish()
