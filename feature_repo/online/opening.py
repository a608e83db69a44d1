"""Opens the online store that the settings name."""

from __future__ import annotations

from feature_repo.home import Home
from feature_repo.online.store import OnlineStore
from feature_repo.settings import Settings


def online_path(home: Home) -> str:
    """File of the SQLite online store."""
    return str(home.feast / "online.db")


def open_store(settings: Settings, home: Home, remembered: int = 0) -> OnlineStore:
    """The online store of the settings. Connects at first use.

    Args:
        remembered: decoded rows of each group that are kept where reads go through the store (SQLite).

    Raises:
        SettingsError: the Redis URL cannot be read.
    """
    if settings.online_store == "redis":
        from feature_repo.online.redis_store import RedisStore  # noqa: PLC0415 - only who uses Redis loads it

        return RedisStore.of(settings)
    from feature_repo.online.sqlite_store import SqliteStore  # noqa: PLC0415

    return SqliteStore(online_path(home), remembered=remembered)
