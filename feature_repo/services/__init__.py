"""Published feature services: each a file here that is written once and never edited.

A service names the features that a consumer reads. It holds their whole declaration, so that it can still be
served after a group has gone on to another version. `headrace features publish` writes the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from feature_repo.errors import BuildError, SettingsError
from feature_repo.group import BatchParams, DType, Entity, Feature, FeatureGroup, LakeTables

if TYPE_CHECKING:
    import ibis.expr.types as ir

FOLDER = Path(__file__).parent
PREFIX = "ranking_v"


class PublishedFeature(Struct, frozen=True):
    """A feature as it was published."""

    name: str
    dtype: str
    unit: str
    meaning: str


class PublishedView(Struct, frozen=True):
    """The features of one view that a service serves, with what registers the view without its group."""

    group: str
    version: int
    view: str
    entity: str
    join_key: str
    stream: bool
    ttl_s: float
    meaning: str
    features: tuple[PublishedFeature, ...]


class Service(Struct, frozen=True):
    """A published feature service."""

    name: str
    views: tuple[PublishedView, ...]

    @property
    def number(self) -> int:
        """The number in the name."""
        return int(self.name.removeprefix(PREFIX))


def published(folder: Path = FOLDER) -> tuple[Service, ...]:
    """Every published service, oldest first.

    Raises:
        SettingsError: a file is damaged.
    """
    found = []
    for path in folder.glob(f"{PREFIX}*.json"):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Service))
        except msgspec.MsgspecError as error:
            msg = f"{path.name}: not a published feature service ({error}); restore the file from history"
            raise SettingsError(msg) from error
    return tuple(sorted(found, key=lambda service: service.number))


def service_of(groups: Iterable[FeatureGroup], number: int) -> Service:
    """The service that serves every feature of the declared groups."""
    views = tuple(
        PublishedView(
            group=group.name,
            version=group.version,
            view=group.view_name,
            entity=group.entity.name,
            join_key=group.entity.join_key,
            stream=group.batch is None,
            ttl_s=group.ttl.total_seconds(),
            meaning=group.meaning,
            features=tuple(PublishedFeature(f.name, f.dtype, f.unit, f.meaning) for f in group.features),
        )
        for group in groups
    )
    return Service(f"{PREFIX}{number}", views)


def publish(groups: Iterable[FeatureGroup], folder: Path = FOLDER) -> Path | None:
    """Publish the declared features as the next service; `None` where the newest one already serves them all.

    Raises:
        SettingsError: a published feature was changed or removed.
    """
    declared = list(groups)
    services = published(folder)
    check(services, {group.view_name: group for group in declared})
    newest = services[-1] if services else None
    service = service_of(declared, newest.number + 1 if newest else 1)
    if newest is not None and _served(service) == _served(newest):
        return None
    path = folder / f"{service.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(service), indent=2) + b"\n")
    return path


def _served(service: Service) -> dict[str, set[str]]:
    return {view.view: {feature.name for feature in view.features} for view in service.views}


def check(services: Iterable[Service], views: Mapping[str, FeatureGroup]) -> None:
    """Refuse a declaration that would change what a published service serves.

    A view that is no longer declared is registered as it was published, so only views that still are can
    contradict a service.

    Args:
        views: declared groups by view name.

    Raises:
        SettingsError: names the first such feature and what to do instead.
    """
    for service in services:
        for view in service.views:
            group = views.get(view.view)
            if group is None:
                continue
            declared = {feature.name: feature.dtype for feature in group.features}
            for feature in view.features:
                dtype = declared.get(feature.name)
                if dtype == feature.dtype:
                    continue
                what = "no longer declared" if dtype is None else f"now {dtype}"
                msg = (
                    f"{group.name}.{feature.name}: published in {service.name} as {feature.dtype}, {what}; "
                    f"keep it and give the new feature another name, or set version={group.version + 1} in "
                    f"feature_repo/groups/{group.name}.py, which makes a view of its own"
                )
                raise SettingsError(msg)


def retired_groups(
    services: Iterable[Service], declared: Mapping[str, FeatureGroup]
) -> dict[str, FeatureGroup]:
    """Views that published services serve and no group declares any more, as far as reading them needs it.

    Args:
        declared: groups by view name.
    """
    views = [view for service in services for view in service.views if view.view not in declared]
    return {view.view: _retired(view) for view in views}


def _retired(view: PublishedView) -> FeatureGroup:
    return FeatureGroup(
        name=view.group,
        entity=Entity(view.entity, view.join_key, ""),
        meaning=view.meaning,
        features=tuple(Feature(f.name, DType(f.dtype), f.meaning, f.unit) for f in view.features),
        freshness=timedelta(seconds=view.ttl_s),
        ttl=timedelta(seconds=view.ttl_s),
        batch=None if view.stream else _not_built,
        version=view.version,
    )


def _not_built(tables: LakeTables, params: BatchParams) -> ir.Table:
    msg = "a retired view is served as it was built last"
    raise BuildError(msg)
