"""Feast objects of the declared groups and of the published feature services."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import feast
from feast import types as ft
from feast.data_format import ParquetFormat
from feast.value_type import ValueType

from feature_repo.group import (
    CREATED_TIMESTAMP,
    EVENT_TIMESTAMP,
    DType,
    Entity,
    FeatureGroup,
)
from feature_repo.home import Home
from feature_repo.services import Service, check, retired_groups

if TYPE_CHECKING:
    pass

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
    services: tuple[feast.FeatureService, ...]

    @property
    def all(self) -> list[feast.Entity | feast.FeatureView | feast.FeatureService]:
        """Everything, in the order it can be applied."""
        return [*self.entities, *self.views, *self.services]


def feast_objects(
    groups: Iterable[FeatureGroup], home: Home, services: Iterable[Service] = ()
) -> FeastObjects:
    """Derive Feast's objects from the declarations.

    Args:
        groups: the declared groups.
        home: holds the builds. Source paths are made absolute: with DuckDB, Feast resolves relative ones
            against the working directory.
        services: published ones. Views that only they know are registered as they were published.

    Raises:
        SettingsError: a declaration contradicts a published service.
    """
    services = tuple(services)
    declared = {group.view_name: group for group in groups}
    check(services, declared)
    known = {**retired_groups(services, declared), **declared}
    entities = {group.entity.name: _entity(group.entity) for group in known.values()}
    views = {name: _view(group, entities[group.entity.name], home) for name, group in known.items()}
    return FeastObjects(
        tuple(entities.values()),
        tuple(views.values()),
        tuple(_service(service, views) for service in services),
    )


def _service(service: Service, views: Mapping[str, feast.FeatureView]) -> feast.FeatureService:
    features = [views[view.view][[feature.name for feature in view.features]] for view in service.views]
    return feast.FeatureService(
        name=service.name, features=features, description="What a ranking reads; never edited once published."
    )


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
