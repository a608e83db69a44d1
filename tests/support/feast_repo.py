"""A Feast repository in a temporary folder, on our offline store and on Feast's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import feast

OURS = "feature_repo.offline.offline_store.HeadraceOfflineStore"


def open_store(folder: Path, offline: str | dict[str, Any]) -> feast.FeatureStore:
    """Open a store on a registry in `folder`; stores in the same folder share it."""
    config = feast.RepoConfig(
        project="test",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store=offline if isinstance(offline, dict) else {"type": offline},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return feast.FeatureStore(config=config)


def apply(folder: Path, objects: Sequence[Any]) -> None:
    open_store(folder, "duckdb").apply(list(objects))
