"""Feast's offline store, answered by DuckDB over Parquet. In ``feature_store.yaml``:

    offline_store:
      type: feature_repo.offline.offline_store.HeadraceOfflineStore
      memory_limit: 1GB

Sources other than local Parquet files, and on-demand views in substrait mode, are left to Feast's own DuckDB
store, which this one extends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.types import String
from pydantic import StrictStr

from feature_repo.consent import stated_sql
from feature_repo.errors import LakeError
from feature_repo.group import USER
from feature_repo.lake.lake import present
from feature_repo.offline import entity_frames as frames
from feature_repo.offline.point_in_time import FeatureTable, point_in_time_sql, quoted, text
from feature_repo.offline.pulls import all_rows_sql, newest_rows_sql
from feature_repo.offline.retrieval import DuckDBRetrievalJob


class HeadraceOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    """Options of ``offline_store:`` in addition to those of Feast's DuckDB store.

    Attributes:
        memory_limit: DuckDB's memory; beyond it, DuckDB spills to `temp_directory`.
        threads: DuckDB's threads; default: one per core.
        temp_directory: spill folder; default: DuckDB's own choice, ``.tmp`` in the working directory.
        exclude_late: count only values created no later than the entity's time, even if the caller does not
            set ``filter_by_created_timestamp``.
        users: folder of the lake's users. Rows of users who deny consent today are left out, whatever earlier
            builds contain; without it no rows are left out.
    """

    type: StrictStr = "feature_repo.offline.offline_store.HeadraceOfflineStore"
    memory_limit: StrictStr = "1GB"
    threads: int | None = None
    temp_directory: str | None = None
    exclude_late: bool = False
    users: StrictStr | None = None


class HeadraceOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """Point-in-time joins, pulls and saved datasets on DuckDB, streamed and within `memory_limit`."""

    @staticmethod
    def get_historical_features(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Return entity rows with the features as of each row's time (see `point_in_time_sql`).

        Raises:
            LakeError: a view has no readable Parquet, or the entity rows are invalid; says which.
        """
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        exclude_late = filter_by_created_timestamp or config.offline_store.exclude_late
        foreign = any(not _is_local_parquet(view.batch_source) for view in feature_views)
        if foreign or any(view.mode == "substrait" for view in on_demand):
            return DuckDBOfflineStore.get_historical_features(
                config,
                feature_views,
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                exclude_late,
            )
        connection = _connect(config)
        frame = frames.register(connection, entity_df)
        tables = [_table(config, view, feature_refs, full_feature_names) for view in feature_views]
        tables = [_keyed(view, table, frame) for view, table in zip(feature_views, tables, strict=True)]
        sql = point_in_time_sql(
            frames.ENTITY,
            frame.columns,
            frame.time_column,
            tables,
            bounds=frame.bounds,
            exclude_late=exclude_late,
        )
        first, last = frame.bounds or (None, None)
        metadata = RetrievalMetadata(
            features=feature_refs,
            keys=[c for c in frame.columns if c != frame.time_column],
            min_event_timestamp=first,
            max_event_timestamp=last,
        )
        return DuckDBRetrievalJob(
            connection,
            sql,
            config.repo_path,
            on_demand_feature_views=on_demand,
            full_feature_names=full_feature_names,
            metadata=metadata,
        )

    @staticmethod
    def pull_latest_from_table_or_query(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Return the newest row of each key with ``start_date <= event time <= end_date``."""
        if not _is_local_parquet(data_source):
            return DuckDBOfflineStore.pull_latest_from_table_or_query(
                config,
                data_source,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
            )
        columns = [*join_key_columns, *feature_name_columns, timestamp_field, created_timestamp_column]
        sql = newest_rows_sql(
            _permitted(config, data_source, [*join_key_columns, *feature_name_columns]),
            keys=join_key_columns,
            columns=list(filter(None, columns)),
            event_time=timestamp_field,
            created=created_timestamp_column,
            start=_utc(start_date),
            end=_utc(end_date),
        )
        return DuckDBRetrievalJob(_connect(config), sql, config.repo_path)

    @staticmethod
    def pull_all_from_table_or_query(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return all rows with ``start_date <= event time <= end_date``."""
        if not _is_local_parquet(data_source):
            return DuckDBOfflineStore.pull_all_from_table_or_query(
                config,
                data_source,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
            )
        columns = [*join_key_columns, *feature_name_columns, timestamp_field, created_timestamp_column]
        source = _permitted(config, data_source, [*join_key_columns, *feature_name_columns])
        start, end = (None if bound is None else _utc(bound) for bound in (start_date, end_date))
        sql = all_rows_sql(source, list(filter(None, columns)), timestamp_field, start, end)
        return DuckDBRetrievalJob(_connect(config), sql, config.repo_path)


def _connect(config: RepoConfig) -> duckdb.DuckDBPyConnection:
    options = config.offline_store
    settings: dict[str, Any] = {"memory_limit": options.memory_limit, "preserve_insertion_order": False}
    if options.threads is not None:
        settings["threads"] = options.threads
    if options.temp_directory is not None:
        settings["temp_directory"] = options.temp_directory
    try:
        connection = duckdb.connect(config=settings)
    except duckdb.Error as error:
        msg = f"offline store: memory_limit={options.memory_limit!r}, threads={options.threads!r}: {error}"
        raise LakeError(msg) from error
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _utc(time: datetime) -> datetime:
    """Treat a time without a zone as UTC, as Feast's interface does, never as local time."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _is_local_parquet(source: DataSource | None) -> bool:
    return (
        isinstance(source, FileSource)
        and (isinstance(source.file_format, ParquetFormat) or source.path.endswith(".parquet"))
        and ("://" not in source.path or source.path.startswith("file://"))
    )


def _parquet(config: RepoConfig, source: FileSource) -> str:
    """Return the source as a table expression; relative paths start from the repository, as in Feast."""
    uri = str(FileSource.get_uri_for_file_path(config.repo_path, source.path))
    path = Path(uri.removeprefix("file://"))
    pattern = path / "**" / "*.parquet" if path.is_dir() else path
    return f"read_parquet({text(str(pattern))}, union_by_name = true)"


def _permitted(config: RepoConfig, source: FileSource, columns: Iterable[str]) -> str:
    """Return the source without rows of users who deny consent today, if its `columns` name users."""
    table = _parquet(config, source)
    folder = config.offline_store.users
    own = {new: old for old, new in source.field_mapping.items()}
    user = own.get(USER.join_key, USER.join_key)
    users = [str(path) for path in present(Path(folder))] if folder and user in columns else []
    if not users:
        return table
    stated = stated_sql(f"read_parquet([{', '.join(map(text, users))}], union_by_name = true)")
    return (
        f"(SELECT b.* FROM {table} b ANTI JOIN (SELECT user_id FROM ({stated}) WHERE NOT stated) d "
        f"ON CAST(b.{quoted(user)} AS VARCHAR) = d.user_id)"
    )


def _table(
    config: RepoConfig, view: FeatureView, feature_refs: Iterable[str], full_feature_names: bool
) -> FeatureTable:
    source = view.batch_source
    column = {new: old for old, new in source.field_mapping.items()}
    prefix = f"{view.projection.name_to_use()}:"
    wanted = [ref.removeprefix(prefix) for ref in feature_refs if ref.startswith(prefix)]
    shown = view.projection.name_alias or view.name
    named = [column.get(field.name, field.name) for field in (*view.entity_columns, *view.features)]
    return FeatureTable(
        source=_permitted(config, source, named),
        keys=tuple(
            (column.get(key.name, key.name), view.projection.join_key_map.get(key.name, key.name))
            for key in view.entity_columns
            if key.name != DUMMY_ENTITY_ID
        ),
        features=tuple(
            (column.get(name, name), f"{shown}__{name}" if full_feature_names else name) for name in wanted
        ),
        event_time=column.get(source.timestamp_field, source.timestamp_field),
        created=column.get(source.created_timestamp_column, source.created_timestamp_column) or None,
        ttl=view.ttl or None,
    )


def _keyed(view: FeatureView, table: FeatureTable, frame: frames.EntityFrame) -> FeatureTable:
    """Return the table with keys compared in their own type: text as text, whole numbers by their digits.

    Raises:
        LakeError: the entity rows lack a key, or have it in a type without a unique text form, like 1.0.
    """
    missing = [ours for _, ours in table.keys if ours not in frame.columns]
    if missing:
        msg = (
            f"entity rows: no column {', '.join(missing)}, which joins {view.name}; "
            f"there are {', '.join(frame.columns)}"
        )
        raise LakeError(msg)
    mapped = view.projection.join_key_map
    text = {mapped.get(key.name, key.name) for key in view.entity_columns if key.dtype == String}
    as_text = set()
    for theirs, ours in table.keys:
        dtype = frame.types[ours]
        if frames.is_text(dtype):
            as_text.add(theirs)
        elif ours in text:
            if not frames.is_whole(dtype):
                msg = (
                    f"entity rows: column {ours} has type {dtype}, and {view.name} is keyed by text; "
                    f'give text or whole numbers, e.g. frame["{ours}"].astype("Int64").astype("string")'
                )
                raise LakeError(msg)
            as_text.add(theirs)
    return replace(table, as_text=frozenset(as_text))


__all__ = ["HeadraceOfflineStore", "HeadraceOfflineStoreConfig"]
