"""Consumers of the views: the published feature services, and serving. Shown in the graph, never run."""

from collections.abc import Sequence

import dagster as dg

from feature_repo.group import FeatureGroup
from feature_repo.services import Service, published
from feature_repo.settings import Settings
from orchestration.defs.about import FEAST_PROJECT, LAYER
from orchestration.defs.keys import API, BLEND, service_key, view_key
from orchestration.lineage.columns import SCHEMA
from orchestration.lineage.links import api_url, feast_url


def service_specs(groups: Sequence[FeatureGroup], settings: Settings) -> list[dg.AssetSpec]:
    """Return a node per published feature service, downstream of the views it serves.

    Args:
        groups: groups that have a view; a view that is no longer declared has no node.
    """
    views = {group.view_name: view_key(group) for group in groups}
    return [_service_spec(service, views, settings) for service in published()]


def _service_spec(service: Service, views: dict[str, dg.AssetKey], settings: Settings) -> dg.AssetSpec:
    columns = [
        dg.TableColumn(f"{view.view}__{feature.name}", feature.dtype, feature.meaning)
        for view in service.views
        for feature in view.features
    ]
    url = feast_url(settings, f"{FEAST_PROJECT}/feature-service/{service.name}")
    return dg.AssetSpec(
        service_key(service.name),
        deps=[views[view.view] for view in service.views if view.view in views],
        group_name="feast",
        kinds={"feast", "view"},
        owners=settings.owners,
        tags={LAYER: "online"},
        description="Feature service: what a ranking reads; never edited once published.",
        metadata={SCHEMA: dg.TableSchema(columns), "feast_ui": dg.MetadataValue.url(url)},
    )


def api_spec(settings: Settings) -> dg.AssetSpec:
    """Return the node of serving, downstream of the newest service and of the blend."""
    return dg.AssetSpec(
        API,
        deps=[*(service_key(service.name) for service in published()[-1:]), BLEND],
        group_name="serving",
        kinds={"python"},
        owners=settings.owners,
        tags={LAYER: "serving"},
        description="`headrace serve`: rankings and features over HTTP.",
        metadata={"api_docs": dg.MetadataValue.url(api_url(settings))},
    )
