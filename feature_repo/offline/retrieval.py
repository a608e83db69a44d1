"""A DuckDB query on its own connection as Feast's retrieval job: Arrow table, stream of batches, file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_format import ParquetFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from feature_repo.errors import LakeError
from feature_repo.files import replacing
from feature_repo.offline.point_in_time import text

BATCH_ROWS = 100_000


class DuckDBRetrievalJob(RetrievalJob):  # type: ignore[misc]
    """Job that runs the query each time rows are requested, so it can be streamed and then stored.

    Args:
        connection: connection for the query; owned by the job.
        sql: the query.
        repo_path: base folder of relative paths of saved datasets.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        sql: str,
        repo_path: Path | None,
        *,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        full_feature_names: bool = False,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._sql = sql
        self._repo_path = repo_path
        self._on_demand = list(on_demand_feature_views)
        self._full_feature_names = full_feature_names
        self._metadata = metadata

    def to_sql(self) -> str:
        """Return the query."""
        return self._sql

    def to_batches(self, rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """Return the result as a stream, for results larger than memory, without on-demand features.

        Any other request to the job ends the stream.

        Raises:
            LakeError: a source cannot be read.
        """
        return self._run().to_arrow_reader(rows)

    def _run(self) -> duckdb.DuckDBPyRelation:
        try:
            return self._connection.sql(self._sql)
        except duckdb.Error as error:
            raise unreadable(error) from error

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        try:
            return self._run().to_arrow_table()
        except duckdb.Error as error:
            raise unreadable(error) from error

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        """Whether feature names are prefixed by their view's name."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """On-demand views that Feast computes on the result."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Metadata of the request."""
        return self._metadata

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the result to one Parquet file, atomically; streamed if there is no on-demand view.

        Raises:
            SavedDatasetLocationAlreadyExists: the file exists and must not be replaced.
            LakeError: the storage is not a local Parquet file.
        """
        path = self._target(storage)
        if path.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=str(path))
        with replacing(path, parents=True) as aside:
            if self._on_demand:
                pq.write_table(self.to_arrow(timeout=timeout), aside, compression="zstd")
            else:
                self._copy(aside)

    def _copy(self, path: Path) -> None:
        try:
            self._connection.execute(
                f"COPY ({self._sql}) TO {text(str(path))} (FORMAT PARQUET, COMPRESSION ZSTD)"
            )
        except duckdb.Error as error:
            raise unreadable(error) from error

    def _target(self, storage: SavedDatasetStorage) -> Path:
        local = isinstance(storage, SavedDatasetFileStorage) and isinstance(
            storage.file_options.file_format, ParquetFormat | None
        )
        if not local:
            msg = f"{type(storage).__name__}: not a Parquet file; use SavedDatasetFileStorage(path=….parquet)"
            raise LakeError(msg)
        path = FileSource.get_uri_for_file_path(self._repo_path, storage.file_options.uri)
        return Path(os.fspath(path)) if not isinstance(path, str) else Path(path.removeprefix("file://"))


def unreadable(error: duckdb.Error) -> LakeError:
    """Convert a DuckDB error to ours."""
    return LakeError(f"offline store: {error}")
