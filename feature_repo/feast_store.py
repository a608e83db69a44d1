"""Feast's configuration and `FeatureStore` for the settings at hand."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from feature_repo.errors import SettingsError
from feature_repo.files import write_file
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lock import locked
from feature_repo.online.redis_url import redis_options
from feature_repo.services import Service, published
from feature_repo.settings import Settings

if TYPE_CHECKING:
    import feast

PROJECT = "headrace"
OFFLINE_STORE = "feature_repo.offline.offline_store.HeadraceOfflineStore"

_NOTE = ".applied.json"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applied:
    """What the registry holds.

    Attributes:
        counts: entities, feature views and feature services.
        changed: whether it had to be written.
    """

    counts: dict[str, int]
    changed: bool


@dataclass(frozen=True)
class _Noted:
    """What was applied last, and the registry as it was then."""

    declarations: str
    registry: str
    counts: dict[str, int]


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
            "users": str(home.lake.resolve() / "users"),
        },
        "entity_key_serialization_version": 3,
    }


def client_config(settings: Settings, home: Home, registry: str | None = None) -> dict[str, Any]:
    """The content of a ``feature_store.yaml`` that Feast reads online features with where Headrace is absent.

    It names no offline store of ours: a plain ``pip install feast[redis]`` understands it.

    Args:
        registry: path or URL of the registry as the client sees it; by default the one of `home`.
    """
    config = repo_config(settings, home)
    offline = {"type": "file"}
    return {**config, "offline_store": offline, **({"registry": registry} if registry else {})}


def redis_connection(url: str) -> str:
    """A Redis URL in Feast's own form, ``host:port,password=…,ssl=true,db=…``.

    Feast splits it at commas and reads each value as JSON where it can, so that the password ``1e5`` would
    become a number: such texts are written as JSON strings, with commas escaped.

    Raises:
        SettingsError: not a URL that redis-py takes, or one that Feast's form cannot hold.
    """
    options = dict(redis_options(url))
    if "path" in options or ":" in str(options.get("host", "")):
        msg = (
            "HEADRACE_REDIS_URL: Feast's client reaches Redis by host name or IPv4 address only; write "
            "redis://host:6379/0 or rediss://… for TLS"
        )
        raise SettingsError(msg)
    pieces = [f"{options.pop('host', 'localhost')}:{options.pop('port', 6379)}"]
    tls = options.pop("connection_class", None) is not None
    order = {"username": 0, "password": 1, **({"ssl": 2} if tls else {}), "db": 3}
    if tls:
        options["ssl"] = True
    if options.get("db") == 0:
        del options["db"]
    named = sorted(options.items(), key=lambda option: order.get(option[0], len(order)))
    pieces += [f"{name}={_as_feast_reads(value)}" for name, value in named]
    return ",".join(pieces)


def _as_feast_reads(value: Any) -> str:
    """A value so written that Feast's client reads the same value."""
    text = json.dumps(value)
    if not isinstance(value, str):
        return text
    try:
        json.loads(value)
    except ValueError:
        if "," not in value:
            return value
    return text.replace(",", "\\u002c")


def write_config(settings: Settings, home: Home) -> Path:
    """Write ``feature_store.yaml`` to ``home.feast``; readable by the owner only, it may hold a password."""
    import yaml  # noqa: PLC0415

    path = home.feast / "feature_store.yaml"
    write_file(path, yaml.safe_dump(repo_config(settings, home), sort_keys=False), parents=True, private=True)
    return path


def feature_store(settings: Settings, home: Home) -> feast.FeatureStore:
    """Feast's client. Importing Feast takes seconds: not for the serving path."""
    import feast  # noqa: PLC0415

    home.feast.mkdir(parents=True, exist_ok=True)
    config = feast.RepoConfig(repo_path=home.feast.resolve(), **repo_config(settings, home))
    return feast.FeatureStore(config=config)


def apply(settings: Settings, home: Home) -> Applied:
    """Register every declared group, unless the registry holds these declarations already.

    Importing Feast and applying costs seconds, so a hash of the declarations is kept beside the registry. A
    registry that somebody else wrote since (``feast apply``, say) is applied again.
    """
    write_config(settings, home)
    note = home.feast / _NOTE
    groups, services = list(all_groups().values()), published()
    with locked(home.feast / ".apply.lock"):
        wanted = declarations(groups, home, services)
        noted = _noted(note)
        if noted is not None and (noted.declarations, noted.registry) == (wanted, _registry_stamp(home)):
            return Applied(noted.counts, changed=False)
        counts = _register(groups, services, settings, home)
        found = _Noted(wanted, _registry_stamp(home), counts)
        write_file(note, msgspec.json.encode(found))
    return Applied(counts, changed=True)


def declarations(groups: Iterable[FeatureGroup], home: Home, services: Iterable[Service] = ()) -> str:
    """A hash that changes with whatever Feast's objects are derived from; does not import Feast."""
    digest = xxhash.xxh3_64((Path(__file__).parent / "views.py").read_bytes())
    digest.update(f"{PROJECT} {home.features.resolve()} feast {version('feast')}".encode())
    for declared in (*groups, *services):
        # Functions show their address. Feast sees only whether there is one.
        digest.update(_ADDRESS.sub("", repr(declared)).encode())
    return digest.hexdigest()


def _register(
    groups: Iterable[FeatureGroup], services: Iterable[Service], settings: Settings, home: Home
) -> dict[str, int]:
    from feature_repo.views import feast_objects, quiet_globs  # noqa: PLC0415 - imports Feast

    quiet_globs()
    objects = feast_objects(groups, home, services)
    feature_store(settings, home).apply(objects.all)
    counts = {
        "entities": len(objects.entities),
        "feature_views": len(objects.views),
        "feature_services": len(objects.services),
    }
    logger.info("feast registry: %s", counts)
    return counts


def _noted(path: Path) -> _Noted | None:
    """What was applied last; a note that cannot be read counts as none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Noted)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _registry_stamp(home: Home) -> str:
    """Size and time of change of the registry; empty where there is none."""
    try:
        stat = (home.feast / "registry.db").stat()
    except FileNotFoundError:
        return ""
    return f"{stat.st_size}:{stat.st_mtime_ns}"
