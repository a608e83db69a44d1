"""From a build to the online store: Arrow batches in, bounded memory, newest event time wins."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.errors import BuildError
from feature_repo.group import EVENT_TIMESTAMP, FeatureGroup
from feature_repo.groups import batch_groups
from feature_repo.home import Home
from feature_repo.lake import Build, Builds
from feature_repo.online import OnlineRow, OnlineStore, open_store
from feature_repo.settings import Settings

ROWS_PER_BATCH = 5_000

logger = logging.getLogger(__name__)
Progress = Callable[[int], Any]
"""Told of rows written since the last call."""


def materialize(
    group: FeatureGroup, build: Build, store: OnlineStore, progress: Progress = lambda rows: None
) -> int:
    """Write a build's rows to the online store; returns how many were written.

    Idempotent and monotone: a row older than the stored one is left out, so running it again, or running an
    old build late, does no harm.

    Raises:
        BuildError: the build cannot be read; names the file.
        StoreError: the store failed; what was written stays, a rerun completes it.
    """
    written = 0
    for batch in read_batches(build.path):
        rows = online_rows(group, batch)
        written += store.write(group, rows)
        progress(len(rows))
    logger.info("materialized %s as of %s: %d rows", group.view_name, build.as_of.isoformat(), written)
    return written


def chosen_builds(home: Home, names: Sequence[str] | None = None) -> list[tuple[FeatureGroup, Build]]:
    """The current builds of the named batch groups, of all by default.

    Raises:
        BuildError: a name is no batch group, or nothing is built yet; says what would be right.
    """
    known = batch_groups()
    if unknown := sorted(set(names or ()) - known.keys()):
        msg = f"{unknown[0]}: no batch group; there are {', '.join(known)}"
        raise BuildError(msg)
    builds = Builds(home.features)
    current = {n: builds.current(n, known[n].version) for n in known if not names or n in names}
    if missing := [name for name in names or () if current[name] is None]:
        msg = f"{missing[0]}: nothing built yet; `headrace build` builds it"
        raise BuildError(msg)
    found = [(known[name], build) for name, build in current.items() if build is not None]
    if not found:
        msg = f"{home.features}: nothing built yet; `headrace build` builds every group"
        raise BuildError(msg)
    return found


def materialize_current(
    group: FeatureGroup, build: Build, settings: Settings, home: Home, progress: Progress = lambda rows: None
) -> int:
    """`materialize` into the store of the settings; returns the rows written."""
    store = open_store(settings, home)
    try:
        return materialize(group, build, store, progress)
    finally:
        store.close()


def read_batches(path: Path, rows: int = ROWS_PER_BATCH) -> Iterator[pa.RecordBatch]:
    """A build's rows in pieces.

    Raises:
        BuildError: the file is missing or corrupt; names it.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            yield from file.iter_batches(batch_size=rows)
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"{path}: not a readable build ({error}); build its partition again"
        raise BuildError(msg) from error


def online_rows(group: FeatureGroup, batch: pa.RecordBatch) -> list[OnlineRow]:
    """Rows of a batch as the online store takes them."""
    names = group.feature_names
    columns = [batch.column(name).to_pylist() for name in names]
    keys = batch.column(group.entity.join_key).to_pylist()
    times = batch.column(EVENT_TIMESTAMP).to_pylist()
    values = zip(*columns, strict=True) if columns else iter([()] * len(keys))
    return [
        OnlineRow(key, dict(zip(names, row, strict=True)), time)
        for key, row, time in zip(keys, values, times, strict=True)
    ]
