"""Feast objects of the declared groups: entities, feature views and the published feature service."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import feast
from feast import types as ft
from feast.data_format import ParquetFormat
from feast.value_type import ValueType

from feature_repo.group import CREATED_TIMESTAMP, EVENT_TIMESTAMP, DType, Entity, FeatureGroup
from feature_repo.home import Home

SERVICE = "ranking_v1"
"""The published feature service. Never edited: a change of its groups is a new name."""

FEAST_TYPES: dict[DType, ft.FeastType] = {
    DType.STRING: ft.String,
    DType.INT64: ft.Int64,
    DType.FLOAT64: ft.Float64,
    DType.BOOL: ft.Bool,
    DType.TIMESTAMP: ft.UnixTimestamp,
    DType.STRINGS: ft.Array(ft.String),
    DType.INT64S: ft.Array(ft.Int64),
    DType.FLOAT64S: ft.Array(ft.Float64),
    DType.FLOAT32S: ft.Array(ft.Float32),
}


@dataclass(frozen=True)
class FeastObjects:
    """What `feast apply` registers."""

    entities: tuple[feast.Entity, ...]
    views: tuple[feast.FeatureView, ...]
    service: feast.FeatureService

    @property
    def all(self) -> list[feast.Entity | feast.FeatureView | feast.FeatureService]:
        """Everything, in the order it can be applied."""
        return [*self.entities, *self.views, self.service]


def feast_objects(groups: Iterable[FeatureGroup], home: Home) -> FeastObjects:
    """Derive Feast's objects from the declarations.

    Args:
        groups: the declared groups.
        home: where the builds lie. Source paths are made absolute: with DuckDB, Feast resolves relative ones
            against the working directory.
    """
    groups = list(groups)
    entities = {g.entity.name: _entity(g.entity) for g in groups}
    views = tuple(_view(g, entities[g.entity.name], home) for g in groups)
    service = feast.FeatureService(
        name=SERVICE, features=list(views), description="What a ranking reads: every group, all features."
    )
    return FeastObjects(tuple(entities.values()), views, service)


def quiet_globs() -> None:
    """Keep Feast from warning that a source's glob is no file: its own DuckDB store reads globs."""
    logging.getLogger("feast.infra.offline_stores.file_source").addFilter(_no_glob)


def _no_glob(record: logging.LogRecord) -> bool:
    return "as_of=*" not in record.getMessage()


def source_path(group: FeatureGroup, home: Home) -> str:
    """Glob of the group's history offline: every build, absolute."""
    return str(home.features.resolve() / group.name / f"v{group.version}" / "as_of=*" / "data.parquet")


def _entity(entity: Entity) -> feast.Entity:
    return feast.Entity(
        name=entity.name,
        join_keys=[entity.join_key],
        value_type=ValueType.STRING,
        description=entity.meaning,
    )


def _view(group: FeatureGroup, entity: feast.Entity, home: Home) -> feast.FeatureView:
    history = feast.FileSource(
        name=f"{group.view_name}_history",
        path=source_path(group, home),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIMESTAMP,
        created_timestamp_column=CREATED_TIMESTAMP,
        description=f"Builds of {group.name}.",
    )
    source = history
    if group.batch is None:
        source = feast.PushSource(
            name=f"{group.view_name}_stream",
            batch_source=history,
            description=f"Rows of {group.name} as the stream writes them.",
        )
    # The join key is part of the schema so that `apply` need not open the data to infer it.
    key = feast.Field(name=group.entity.join_key, dtype=ft.String)
    features = [
        feast.Field(name=f.name, dtype=FEAST_TYPES[f.dtype], description=f.meaning, tags={"unit": f.unit})
        for f in group.features
    ]
    return feast.FeatureView(
        name=group.view_name,
        entities=[entity],
        schema=[key, *features],
        source=source,
        ttl=group.ttl,
        online=True,
        description=group.meaning,
        tags={"group": group.name, "kind": "stream" if group.batch is None else "batch"},
    )
