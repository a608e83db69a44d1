"""The result of a DuckDB query as a temporary Parquet file, so that it has the types and checks of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xxhash

from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from streaming.sources.remote import Progress, sweep

_ROWS = 50_000


@contextmanager
def query_result(
    query: str, folder: Path, settings: Settings, progress: Progress | None = None
) -> Iterator[Path]:
    """Run a query, written batch by batch into a Parquet file that is removed afterwards.

    Args:
        query: one SELECT.
        folder: of temporary files.
        settings: DuckDB's memory and threads.
        progress: told the bytes written so far; how many there will be is not known.

    Raises:
        SourceError: not one SELECT, or the query fails; one line, in DuckDB's words.
    """
    sweep(folder, time.time())
    path = folder / xxhash.xxh3_64_hexdigest(query.encode()) / "query.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(query, path, settings, progress)
        yield path
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()


def _write(query: str, path: Path, settings: Settings, progress: Progress | None) -> None:
    import duckdb  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with _connection(settings, path.parent) as connection:
            _check(connection, query)
            batches = connection.sql(query).to_arrow_reader(_ROWS)
            with pq.ParquetWriter(path, batches.schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    if progress is not None:
                        progress(path, path.stat().st_size, 0)
    except duckdb.Error as error:
        msg = f"--sql: {' '.join(str(error).split())[:500]}"
        raise SourceError(msg) from error
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())[:300]
        msg = f"--sql: the result cannot be kept ({why}); CAST the column in the query"
        raise SourceError(msg) from error


def _connection(settings: Settings, spill: Path) -> Any:
    import duckdb  # noqa: PLC0415

    connection = duckdb.connect(
        config={
            "memory_limit": settings.duckdb_memory,
            "threads": settings.duckdb_threads,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,  # a query downloads no code
        }
    )
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return connection


def _check(connection: Any, query: str) -> None:
    """Whether it is one query that only reads.

    Raises:
        SourceError: it is not.
    """
    statements = connection.extract_statements(query)
    kinds = [str(statement.type).rpartition(".")[2] for statement in statements]
    if kinds != ["SELECT"]:
        found = " and ".join(kinds) or "nothing"
        msg = f"--sql: {found} where one SELECT belongs, e.g. \"SELECT * FROM 'export.parquet'\""
        raise SourceError(msg)
