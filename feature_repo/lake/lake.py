"""The lake: Parquet by kind and event day. Layout and reading; `streaming.ingest.lake_writer` writes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_repo.contract.columns import FACTS, with_facts
from feature_repo.contract.validation import Kind, arrow_schema
from feature_repo.errors import LakeError
from feature_repo.files import replacing, write_file

if TYPE_CHECKING:
    import ibis
    import ibis.expr.types as ir

    from feature_repo.group import LakeTables


@dataclass(frozen=True)
class Lake:
    """``events/day=YYYY-MM-DD/*.parquet``, ``items/*.parquet``, ``users/*.parquet`` in `root`.

    Files are written once under a temporary name (leading dot) and renamed into place, so readers see only
    whole files. Within a day each event id occurs once. ``upto-N`` is the compaction of everything before it
    and replaces every ``part-M`` with M ≤ N. Replaced files stay on disk for a while, for readers that listed
    them before; so use `files`, never glob.
    """

    root: Path

    def events_of(self, day: date) -> Path:
        """Return the folder of one event day."""
        return self.root / "events" / f"day={day.isoformat()}"

    def folder(self, kind: Kind) -> Path:
        """Return the folder of one kind of record."""
        return self.root / f"{kind}s"

    def days(self) -> list[date]:
        """List the existing event days, ascending."""
        return sorted(
            date.fromisoformat(p.name.removeprefix("day="))
            for p in self.folder("event").glob("day=*")
            if present(p)
        )

    def files_of(self, day: date) -> list[str]:
        """List the Parquet files of one event day."""
        return [str(p) for p in present(self.events_of(day))]

    def files(self, kind: Kind, start: date | None = None, end: date | None = None) -> list[str]:
        """List the Parquet files of a kind; for events, only days with ``start <= day < end``."""
        if kind != "event":
            return [str(p) for p in present(self.folder(kind))]
        days = [d for d in self.days() if (start is None or d >= start) and (end is None or d < end)]
        return [name for d in days for name in self.files_of(d)]


_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}
"""Errors for another file system, one without links, or a file with the maximum number of links."""
PART, UPTO = "part", "upto"
CHECKED, BLOCKED = "checked.parquet", "blocked.parquet"
"""Beside a build: the last build of that time that passed. In a group's folder: the last one held back."""


def numbered(path: Path) -> tuple[str, int]:
    """Return the role and number in a lake file's name; ``("", 0)`` for other names."""
    role, _, number = path.stem.partition("-")
    return (role, int(number)) if role in (PART, UPTO) and number.isdigit() else ("", 0)


def present(folder: Path) -> list[Path]:
    """List the current files of a lake folder: the newest compaction and the files after it."""
    paths = sorted(folder.glob("[!.]*.parquet"))
    names = [numbered(p) for p in paths]
    last = max((number for role, number in names if role == UPTO), default=-1)
    return [
        path
        for path, (role, number) in zip(paths, names, strict=True)
        if not role or (number == last if role == UPTO else number > last)
    ]


def unreadable(files: Sequence[str], needs: Sequence[str] = ()) -> LakeError | None:
    """Return an error for the first file that is not whole Parquet or lacks a needed column, else `None`."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    for name in files:
        try:
            columns = pq.read_schema(name).names
        except (OSError, pa.ArrowException) as error:
            msg = f"{name}: damaged Parquet file ({error}); move it away and ingest its source again"
            return LakeError(msg)
        if missing := [column for column in needs if column not in columns]:
            msg = f"{name}: no column {', '.join(missing)}; it is no file of this lake: move it away"
            return LakeError(msg)
    return None


def read_kind(
    con: ibis.BaseBackend, lake: Lake, kind: Kind, start: date | None = None, end: date | None = None
) -> ir.Table:
    """Read one kind of record as an Ibis table; it is empty, with the right columns, if the lake has none.

    Columns missing in files of an earlier contract version are null.
    """
    import ibis  # noqa: PLC0415 - half a second, and the command line imports this module

    files = lake.files(kind, start, end)
    if not files:
        return ibis.memtable(arrow_schema(kind).empty_table())
    table = con.read_parquet(files, hive_partitioning=False, union_by_name=True)
    schema = ibis.Schema.from_pyarrow(arrow_schema(kind))
    absent = {name: ibis.null(dtype) for name, dtype in schema.items() if name not in table.columns}
    return table.mutate(**absent) if absent else table


def days_before(as_of: datetime, history: timedelta) -> tuple[date, date]:
    """Return the first event day within the history, and the day after the last; midnight closes a day."""
    last = (as_of - timedelta(microseconds=1)).astimezone(UTC).date()
    return (as_of - history).astimezone(UTC).date(), last + timedelta(days=1)


def read_tables(con: ibis.BaseBackend, lake: Lake, as_of: datetime, history: timedelta) -> LakeTables:
    """Read the inputs of the batch groups as of a time: no event at or after it, none older than `history`.

    Items and users have no event time: the newest ingested record of each id is used.
    """
    import ibis  # noqa: PLC0415

    from feature_repo.group import LakeTables  # noqa: PLC0415

    since = as_of - history
    events = read_kind(con, lake, "event", *days_before(as_of, history))
    events = events.filter(events.event_time < as_of, events.event_time >= since)
    newest = {}
    for kind, key in (("item", "item_id"), ("user", "user_id")):
        table = _complete(con, kind, read_kind(con, lake, kind))  # type: ignore[arg-type]
        rank = ibis.row_number().over(group_by=table[key], order_by=table.ingested_at.desc())
        newest[kind] = table.mutate(_rank=rank).filter(lambda t: t._rank == 0).drop("_rank")
    return LakeTables(events=events, items=newest["item"], users=newest["user"])


def _complete(con: ibis.BaseBackend, kind: Kind, table: ir.Table) -> ir.Table:
    """Return the table with `FACTS` in every row; rows of earlier versions without them go through Python.

    The next `LakeWriter.sync` rewrites files of such a version.
    """
    import ibis  # noqa: PLC0415

    older = con.to_pyarrow(table.filter(table[FACTS].isnull()))
    if not older.num_rows:
        return table
    completed = ibis.memtable(with_facts(kind, older)).cast(table.schema())
    return ibis.union(table.filter(table[FACTS].notnull()), completed)


@contextmanager
def duckdb_backend(memory: str, threads: int, spill: Path) -> Iterator[ibis.BaseBackend]:
    """Yield an in-memory DuckDB behind Ibis that spills to `spill` beyond `memory`. Times are UTC."""
    import ibis  # noqa: PLC0415

    spill.mkdir(parents=True, exist_ok=True)
    con = ibis.duckdb.connect(memory_limit=memory, threads=threads, temp_directory=str(spill))
    con.raw_sql("SET TimeZone = 'UTC'")
    con.raw_sql("SET enable_progress_bar = false")  # it would clutter logs and other output
    try:
        yield con
    finally:
        con.disconnect()


@dataclass(frozen=True)
class Build:
    """A finished build of a batch group: a Parquet file and its metadata."""

    path: Path
    as_of: datetime
    created: datetime
    rows: int


@dataclass(frozen=True)
class Builds:
    """``<root>/<group>/v<version>/as_of=<time>/data.parquet``, and ``CURRENT``, the name of the promoted one.

    A build is written to a temporary file and renamed. Only `promote` makes it current, after its checks have
    passed, so readers stay on the last good version.
    """

    root: Path

    def folder(self, group: str, version: int = 1) -> Path:
        """Return the folder of a group's builds."""
        return self.root / group / f"v{version}"

    def path(self, group: str, as_of: datetime, version: int = 1) -> Path:
        """Return the file of the build as of a time."""
        return self.folder(group, version) / f"as_of={as_of.astimezone(UTC):%Y%m%dT%H%M%SZ}" / "data.parquet"

    def history(self, group: str, version: int = 1) -> list[Path]:
        """List the files of all builds, oldest first."""
        return sorted(self.folder(group, version).glob("as_of=*/data.parquet"))

    def write(self, group: str, as_of: datetime, table: pa.Table, version: int = 1) -> Path:
        """Write a build; it replaces an earlier one with the same `as_of`."""
        import pyarrow.parquet as pq  # noqa: PLC0415

        path = self.path(group, as_of, version)
        with replacing(path, parents=True) as aside:
            pq.write_table(table, aside, compression="zstd")
        return path

    def confirm(self, build: Build) -> None:
        """Mark a build as passed, so that it is restored if its replacement fails."""
        _link(build.path, build.path.with_name(CHECKED))

    def hold_back(self, group: str, build: Build, version: int = 1) -> None:
        """Take a build that failed its checks out of the history; keep the last one as ``blocked.parquet``.

        A build of the same time that passed is restored. A file that itself passed once, or that is the
        current one, stays: it is being served, and there is nothing better.
        """
        checked = build.path.with_name(CHECKED)
        _link(build.path, self.folder(group, version) / BLOCKED)
        if checked.exists():
            _link(checked, build.path)
        elif (current := self.current(group, version)) is None or current.path != build.path:
            build.path.unlink()
            with suppress(OSError):  # not empty: another build is being written
                build.path.parent.rmdir()

    def promote(self, group: str, build: Build, version: int = 1) -> None:
        """Make a build the current one, atomically."""
        pointer = self.folder(group, version) / "CURRENT"
        fields = {
            "path": str(build.path.relative_to(self.root)),
            "as_of": build.as_of.isoformat(),
            "created": build.created.isoformat(),
            "rows": build.rows,
        }
        write_file(pointer, json.dumps(fields))

    def adopt(self, group: str, build: Build, version: int = 1) -> None:
        """Make a build from another root the current and only one here.

        The file is linked, or copied if it is on another file system.
        """
        path = self.path(group, build.as_of, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _same_file(build.path, path):
            _link(build.path, path)
        self.promote(group, replace(build, path=path), version)
        for other in self.history(group, version):
            if other != path:
                shutil.rmtree(other.parent, ignore_errors=True)

    def current(self, group: str, version: int = 1) -> Build | None:
        """Return the promoted build, or `None` before the first.

        Raises:
            LakeError: the pointer is damaged or unreadable; names it.
        """
        pointer = self.folder(group, version) / "CURRENT"
        try:
            fields = json.loads(pointer.read_text())
            return Build(
                path=self.root / fields["path"],
                as_of=datetime.fromisoformat(fields["as_of"]),
                created=datetime.fromisoformat(fields["created"]),
                rows=fields["rows"],
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"{pointer}: cannot be read ({error.strerror})"
            raise LakeError(msg) from error
        except (ValueError, KeyError, TypeError) as error:
            msg = (
                f"{pointer}: names no build ({error}); remove it; the next build that passes writes it again"
            )
            raise LakeError(msg) from error


def _same_file(path: Path, other: Path) -> bool:
    """Return whether one file is a link to, or a copy of, the other."""
    try:
        a, b = path.stat(), other.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(a, b) or (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def _link(path: Path, to: Path) -> None:
    """Link a file to a second name, replacing any other file; copy it if linking is impossible."""
    with replacing(to) as aside:
        try:
            os.link(path, aside)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copy2(path, aside)
