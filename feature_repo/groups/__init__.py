"""Every feature group, found by module: adding a group is adding one file here that defines ``GROUP``."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from feature_repo.group import Entity, FeatureGroup


@cache
def all_groups() -> dict[str, FeatureGroup]:
    """Return the groups by name, dependencies first."""
    found = {
        group.name: group
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")
        for group in [import_module(f"{__name__}.{module.name}").GROUP]
    }
    ordered: dict[str, FeatureGroup] = {}

    def add(group: FeatureGroup) -> None:
        for name in group.depends_on:
            add(found[name])
        ordered.setdefault(group.name, group)

    for name in sorted(found):
        add(found[name])
    return ordered


def batch_groups() -> dict[str, FeatureGroup]:
    """Return the groups that Dagster builds."""
    return {n: g for n, g in all_groups().items() if g.batch is not None}


def stream_groups(entity: Entity | None = None) -> dict[str, FeatureGroup]:
    """Return the groups that the stream maintains, all or those of one entity."""
    kept = {n: g for n, g in all_groups().items() if g.batch is None}
    return kept if entity is None else {n: g for n, g in kept.items() if g.entity is entity}
