"""From a build to the online store: Arrow batches in, bounded memory, newest event time wins.

A build is written in pieces, the row groups of its file. After each piece the watermark is advanced, so a
write that was killed goes on where it stopped; a piece written twice changes nothing.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.errors import BuildError
from feature_repo.group import USER, FeatureGroup
from feature_repo.home import Home
from feature_repo.lake.lake import Build
from feature_repo.online import OnlineStore, open_store
from feature_repo.settings import Settings
from orchestration.materialize.arrow_encoding import encode_batch
from orchestration.materialize.checkpoint import Watermark
from orchestration.materialize.withdrawals import state_consent

ROWS_PER_BATCH = 5_000
PARALLEL_FROM = 100_000
"""Rows from which several processes pay for their start."""

logger = logging.getLogger(__name__)
Progress = Callable[[int], Any]
"""Told of rows dealt with since the last call."""


def materialize(
    group: FeatureGroup,
    build: Build,
    store: OnlineStore,
    progress: Progress = lambda rows: None,
    without: frozenset[str] = frozenset(),
) -> int:
    """Write a build's rows to the online store; returns how many were written, resumed ones included.

    Idempotent and monotone: a row older than the stored one is left out, so running it again, or running an
    old build late, does no harm.

    Args:
        without: keys whose rows are left out: users who deny consent today.

    Raises:
        BuildError: the build cannot be read; names the file.
        StoreError: the store failed; what was written stays, a rerun completes it.
    """
    mark = Watermark.begin(group, build, store)
    for piece in _pending(build.path, mark, progress):
        rows = write_piece(group, build.path, piece, store, progress, without=without)
        mark = mark.advanced(piece, rows).save(store)
    return _finish(mark, store)


def materialize_current(
    group: FeatureGroup,
    build: Build,
    settings: Settings,
    home: Home,
    *,
    progress: Progress = lambda rows: None,
    workers: int | None = None,
) -> int:
    """`materialize` into the store of the settings, large builds over several processes.

    Rows of users come after what they stated of consent today, and without those of who denies it.

    Args:
        workers: processes; by default one per core for Redis, and this one alone for small builds and for
            SQLite, which takes one writer at a time.
    """
    store = open_store(settings, home)
    if workers is None:
        large = settings.online_store == "redis" and build.rows >= PARALLEL_FROM
        workers = len(os.sched_getaffinity(0)) if large else 1
    try:
        without = state_consent(store, settings, home) if group.entity == USER else frozenset()
        if workers == 1:
            return materialize(group, build, store, progress, without)
        opened_by = settings, home, without
        return _in_parallel(group, build, store, opened_by=opened_by, progress=progress, workers=workers)
    finally:
        store.close()


def write_piece(
    group: FeatureGroup,
    path: Path,
    piece: int,
    store: OnlineStore,
    progress: Progress = lambda rows: None,
    *,
    without: frozenset[str] = frozenset(),
) -> int:
    """Write one row group, leaving out the rows of some keys; returns the rows taken."""
    written = 0
    for batch in read_batches(path, [piece]):
        rows = encode_batch(group, batch)
        if without:
            rows = [row for row in rows if row.key not in without]
        written += store.write_encoded(group, rows)
        progress(batch.num_rows)
    return written


def read_batches(
    path: Path, pieces: list[int] | None = None, rows: int = ROWS_PER_BATCH
) -> Iterator[pa.RecordBatch]:
    """A build's rows, a few thousand at a time.

    Raises:
        BuildError: the file is missing or corrupt; names it.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            yield from file.iter_batches(batch_size=rows, row_groups=pieces, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"{path}: not a readable build ({error}); build its partition again"
        raise BuildError(msg) from error


def _pending(path: Path, mark: Watermark, progress: Progress) -> list[int]:
    try:
        found = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"{path}: not a readable build ({error}); build its partition again"
        raise BuildError(msg) from error
    for piece in mark.done:
        progress(found.row_group(piece).num_rows)
    if mark.done:
        logger.info("%s: resumed after %d of %d pieces", mark.view, len(mark.done), found.num_row_groups)
    return [piece for piece in range(found.num_row_groups) if piece not in mark.done]


def _finish(mark: Watermark, store: OnlineStore) -> int:
    replace(mark, complete=True).save(store)
    logger.info("materialized %s as of %s: %d rows", mark.view, mark.as_of.isoformat(), mark.rows)
    return mark.rows


def _in_parallel(
    group: FeatureGroup,
    build: Build,
    store: OnlineStore,
    *,
    opened_by: tuple[Settings, Home, frozenset[str]],
    progress: Progress,
    workers: int,
) -> int:
    """Pieces over processes; this one alone keeps the watermark."""
    mark = Watermark.begin(group, build, store)
    sizes = pq.read_metadata(build.path)
    plain = replace(group, batch=None)  # a process cannot be handed a local function, and needs none
    # Spawned: a forked child would inherit Arrow's threads in an unknown state.
    with ProcessPoolExecutor(workers, get_context("spawn"), _open_worker, opened_by) as pool:
        futures = {
            pool.submit(_work, plain, build.path, piece): piece
            for piece in _pending(build.path, mark, progress)
        }
        try:
            for future in as_completed(futures):
                mark = mark.advanced(futures[future], future.result()).save(store)
                progress(sizes.row_group(futures[future]).num_rows)
        except BrokenProcessPool as error:
            msg = (
                f"{group.view_name}: a writing process died ({error}); run again, it goes on where it stopped"
            )
            raise BuildError(msg) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return _finish(mark, store)


_worker_store: OnlineStore | None = None
_worker_without: frozenset[str] = frozenset()


def _open_worker(settings: Settings, home: Home, without: frozenset[str]) -> None:
    global _worker_store, _worker_without
    _worker_store, _worker_without = open_store(settings, home), without
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(group: FeatureGroup, path: Path, piece: int) -> int:
    assert _worker_store is not None
    return write_piece(group, path, piece, _worker_store, without=_worker_without)
