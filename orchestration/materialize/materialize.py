"""Writes a build to the online store: Arrow batches in, bounded memory, the newest event time wins.

A build is written in pieces, the row groups of its file. The checkpoint is advanced after each piece, so a
killed write resumes where it stopped; writing a piece twice changes nothing.
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
from orchestration.materialize.checkpoint import Checkpoint
from orchestration.materialize.withdrawals import state_consent

ROWS_PER_BATCH = 5_000
PARALLEL_FROM = 100_000
"""From this many rows on, several processes pay for their startup."""

logger = logging.getLogger(__name__)
Progress = Callable[[int], Any]
"""Called with the number of rows handled since the last call."""


def materialize(
    group: FeatureGroup,
    build: Build,
    store: OnlineStore,
    progress: Progress = lambda rows: None,
    without: frozenset[str] = frozenset(),
) -> int:
    """Write a build's rows to the online store; return the number written, including resumed ones.

    Idempotent and monotone: a row older than the stored one is skipped, so running it again, or running an
    old build late, does no harm.

    Args:
        without: keys of rows to leave out: users who deny consent today.

    Raises:
        BuildError: the build cannot be read; names the file.
        StoreError: the store failed; written rows stay, and a rerun completes the write.
    """
    checkpoint = Checkpoint.begin(group, build, store)
    for piece in _pending(build.path, checkpoint, progress):
        rows = write_piece(group, build.path, piece, store, progress, without=without)
        checkpoint = checkpoint.advanced(piece, rows).save(store)
    return _finish(checkpoint, store)


def materialize_current(
    group: FeatureGroup,
    build: Build,
    settings: Settings,
    home: Home,
    *,
    progress: Progress = lambda rows: None,
    workers: int | None = None,
) -> int:
    """Write a build to the configured store, large builds with several processes.

    Users' consent is written before their rows; users who deny it today get no row.

    Args:
        workers: number of processes; by default one per core for Redis, but only this one for small builds
            and for SQLite, which allows one writer at a time.
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
    """Write one row group, leaving out the given keys; return the rows written."""
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
    """Yield a build's rows in batches of a few thousand.

    Raises:
        BuildError: the file is missing or corrupt; names it.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            yield from file.iter_batches(batch_size=rows, row_groups=pieces, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"{path}: not a readable build ({error}); rebuild its partition"
        raise BuildError(msg) from error


def _pending(path: Path, checkpoint: Checkpoint, progress: Progress) -> list[int]:
    try:
        found = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"{path}: not a readable build ({error}); rebuild its partition"
        raise BuildError(msg) from error
    for piece in checkpoint.done:
        progress(found.row_group(piece).num_rows)
    if checkpoint.done:
        logger.info(
            "%s: resumed after %d of %d pieces", checkpoint.view, len(checkpoint.done), found.num_row_groups
        )
    return [piece for piece in range(found.num_row_groups) if piece not in checkpoint.done]


def _finish(checkpoint: Checkpoint, store: OnlineStore) -> int:
    replace(checkpoint, complete=True).save(store)
    logger.info(
        "materialized %s as of %s: %d rows", checkpoint.view, checkpoint.as_of.isoformat(), checkpoint.rows
    )
    return checkpoint.rows


def _in_parallel(
    group: FeatureGroup,
    build: Build,
    store: OnlineStore,
    *,
    opened_by: tuple[Settings, Home, frozenset[str]],
    progress: Progress,
    workers: int,
) -> int:
    """Write the pieces with several processes; only this one saves the checkpoint."""
    checkpoint = Checkpoint.begin(group, build, store)
    sizes = pq.read_metadata(build.path)
    plain = replace(group, batch=None)  # a local function cannot be pickled, and is not needed
    # Spawned: a forked child would inherit Arrow's threads in an unknown state.
    with ProcessPoolExecutor(workers, get_context("spawn"), _open_worker, opened_by) as pool:
        futures = {
            pool.submit(_work, plain, build.path, piece): piece
            for piece in _pending(build.path, checkpoint, progress)
        }
        try:
            for future in as_completed(futures):
                checkpoint = checkpoint.advanced(futures[future], future.result()).save(store)
                progress(sizes.row_group(futures[future]).num_rows)
        except BrokenProcessPool as error:
            msg = f"{group.view_name}: a writing process died ({error}); run again to resume where it stopped"
            raise BuildError(msg) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return _finish(checkpoint, store)


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
