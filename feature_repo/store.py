"""Feast's configuration and `FeatureStore` for the settings at hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from feature_repo.errors import SettingsError
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.services import published
from feature_repo.settings import Settings

if TYPE_CHECKING:
    import feast

PROJECT = "headrace"
OFFLINE_STORE = "feature_repo.offline.store.HeadraceOfflineStore"

logger = logging.getLogger(__name__)


def repo_config(settings: Settings, home: Home) -> dict[str, Any]:
    """The content of ``feature_store.yaml``: absolute paths, so that it works from any folder."""
    folder = home.feast.resolve()
    online: dict[str, Any] = {"type": "sqlite", "path": str(folder / "online.db")}
    if settings.online_store == "redis":
        connection = redis_connection(settings.redis_url.get_secret_value())
        online = {"type": "redis", "connection_string": connection}
    return {
        "project": PROJECT,
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "online_store": online,
        "offline_store": {
            "type": OFFLINE_STORE,
            "memory_limit": settings.duckdb_memory,
            "threads": settings.duckdb_threads,
            "temp_directory": str(home.root.resolve() / "spill"),
        },
        "entity_key_serialization_version": 3,
    }


def redis_connection(url: str) -> str:
    """A Redis URL in Feast's own form, ``host:port,password=…,ssl=true,db=…``.

    Raises:
        SettingsError: not a redis URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        msg = f"HEADRACE_REDIS_URL: scheme {parts.scheme!r}; write redis://host:6379/0 or rediss://… for TLS"
        raise SettingsError(msg)
    pieces = [f"{parts.hostname}:{parts.port or 6379}"]
    if parts.username:
        pieces.append(f"username={unquote(parts.username)}")
    if parts.password:
        pieces.append(f"password={unquote(parts.password)}")
    if parts.scheme == "rediss":
        pieces.append("ssl=true")
    if (db := parts.path.strip("/")) not in ("", "0"):
        pieces.append(f"db={db}")
    return ",".join(pieces)


def write_config(settings: Settings, home: Home) -> Path:
    """Write ``feature_store.yaml`` to ``home.feast``; readable by the owner only, it may hold a password."""
    import yaml  # noqa: PLC0415

    home.feast.mkdir(parents=True, exist_ok=True)
    path = home.feast / "feature_store.yaml"
    aside = path.with_name(f".{path.name}.tmp")
    aside.touch(mode=0o600)
    aside.write_text(yaml.safe_dump(repo_config(settings, home), sort_keys=False))
    aside.replace(path)
    return path


def feature_store(settings: Settings, home: Home) -> feast.FeatureStore:
    """Feast's client. Importing Feast takes seconds: not for the serving path."""
    import feast  # noqa: PLC0415

    home.feast.mkdir(parents=True, exist_ok=True)
    config = feast.RepoConfig(repo_path=home.feast.resolve(), **repo_config(settings, home))
    return feast.FeatureStore(config=config)


def apply(settings: Settings, home: Home) -> dict[str, int]:
    """Register every declared group; the same declarations twice change nothing.

    Returns:
        counts of entities, feature views and feature services.
    """
    from feature_repo.views import feast_objects, quiet_globs  # noqa: PLC0415

    quiet_globs()
    write_config(settings, home)
    objects = feast_objects(all_groups().values(), home, published())
    feature_store(settings, home).apply(objects.all)
    counts = {
        "entities": len(objects.entities),
        "feature_views": len(objects.views),
        "feature_services": len(objects.services),
    }
    logger.info("feast registry: %s", counts)
    return counts
