"""One folder of the lake: numbered files, renamed into place, merged when there are many."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.contract.columns import FACTS, with_facts
from feature_repo.contract.validation import Kind
from feature_repo.errors import LakeError
from feature_repo.files import replacing
from feature_repo.lake.lake import PART, UPTO, numbered, present, unreadable

MAX_FILES = 8
KEEP_SUPERSEDED_S = 3600.0
"""How long merged files are kept for readers that listed them before the merge."""


class ParquetFolder:
    """Adds tables to a folder. One writer at a time (the caller holds the lock).

    Args:
        folder: created with the first table.
        kind: kind of the records. For items and users, a merge keeps only the newest row of each id.
    """

    def __init__(self, folder: Path, kind: Kind = "event") -> None:
        self._folder = folder
        self._kind = kind

    def add(self, table: pa.Table) -> None:
        """Write a table as a new file; merge if there are more than `MAX_FILES`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((numbered(p)[1] for p in self._folder.glob("*-*.parquet")), default=-1)
        self._write(table, f"{PART}-{number:08d}.parquet")
        files = present(self._folder)
        if len(files) > MAX_FILES:
            self._merge([p for p in files if numbered(p)[0]], number)
            self._sweep()

    def upgrade(self) -> None:
        """Merge files written by a version without `FACTS`, so that builds need not compute them."""
        files = [p for p in present(self._folder) if numbered(p)[0]]
        if files and any(FACTS not in pq.read_schema(p).names for p in files):
            self._merge(files, 1 + max(numbered(p)[1] for p in files))

    def _write(self, table: pa.Table, name: str) -> None:
        with replacing(self._folder / name) as aside:
            pq.write_table(table, aside, compression="zstd")

    def _merge(self, files: list[Path], number: int) -> None:
        try:
            table = pa.concat_tables([pq.read_table(p) for p in files], promote_options="default")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise unreadable([str(p) for p in files]) or LakeError(f"{self._folder}: {error}") from error
        if self._kind == "event":
            table = table.sort_by("event_time")
        else:
            table = with_facts(self._kind, table.take(_newest(table, f"{self._kind}_id")))
        self._write(table, f"{UPTO}-{number:08d}.parquet")

    def _sweep(self) -> None:
        """Remove files that were merged, once no reader can still be using them."""
        horizon = time.time() - KEEP_SUPERSEDED_S
        files = [(path, *numbered(path)) for path in self._folder.glob("*-*.parquet")]
        settled = max(
            (n for path, role, n in files if role == UPTO and path.stat().st_mtime < horizon), default=-1
        )
        for path, role, number in files:
            if (role == PART and number <= settled) or (role == UPTO and number < settled):
                path.unlink()
        for path in self._folder.glob(".*.tmp"):
            if path.stat().st_mtime < horizon:
                os.unlink(path)


def _newest(table: pa.Table, key: str) -> pa.Array:
    """Return the row numbers of each key's newest row."""
    order = pc.sort_indices(table, sort_keys=[("ingested_at", "descending")])
    keys = table.column(key).take(order)
    firsts = (
        pa.table({"key": keys, "at": order}).group_by("key", use_threads=False).aggregate([("at", "first")])
    )
    return firsts.column("at_first").combine_chunks()
