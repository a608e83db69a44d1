"""Tags and links that every asset carries besides its description."""

from collections.abc import Mapping

import dagster as dg

from feature_repo.group import FeatureGroup
from feature_repo.settings import Settings
from orchestration.lineage.links import docs_url, drift_url, feast_url

LAYER = "headrace/layer"
"""Tag: log, lake, batch, stream, online, model, training, quality or serving."""
FEAST_PROJECT = "p/headrace"


def tags_of(group: FeatureGroup, layer: str) -> dict[str, str]:
    """Return the tags of an asset that holds a group."""
    return {LAYER: layer, "headrace/entity": group.entity.name, "headrace/version": str(group.version)}


def page_links(settings: Settings, *, drift: bool = False) -> Mapping[str, dg.UrlMetadataValue]:
    """Return links to the check pages and, if asked, to the drift plots."""
    links = {"data_docs": dg.MetadataValue.url(docs_url(settings))}
    return {**links, "drift": dg.MetadataValue.url(drift_url(settings))} if drift else links


def view_link(settings: Settings, group: FeatureGroup) -> Mapping[str, dg.UrlMetadataValue]:
    """Return a link to a view in Feast's UI."""
    url = feast_url(settings, f"{FEAST_PROJECT}/feature-view/{group.view_name}")
    return {"feast_ui": dg.MetadataValue.url(url)}
