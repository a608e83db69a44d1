"""Consent, on the batch side: who withdrew it has no row online, whatever an older build wrote."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb

from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake import Lake
from feature_repo.online import open_store
from feature_repo.online.consent import CONSENT, consent_rows
from feature_repo.settings import Settings

DENIED = """
SELECT user_id, epoch_us(max(ingested_at)) FROM read_parquet($files, union_by_name = true)
GROUP BY user_id HAVING NOT arg_max(coalesce(consent, true), ingested_at)
ORDER BY user_id
"""
"""Users whose newest record denies consent; a newest record that states nothing denies nothing."""


def withdrawn_users(lake: Lake) -> dict[str, datetime]:
    """The users whose newest record denies consent, by ascending id, and when it came to the lake."""
    files = lake.files("user")
    if not files:
        return {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(DENIED, {"files": files}).fetchall()
    return {user_id: datetime.fromtimestamp(micros / 1e6, UTC) for user_id, micros in found}


def forget_withdrawn(group: FeatureGroup, settings: Settings, home: Home) -> int:
    """Delete the online rows of users who withdrew consent, and say so there; how many users that are.

    A build leaves them out but cannot take back what one before it wrote; the stream deletes at once, and
    this repairs what it missed. What it says is as old as the record: consent given since stands.

    Raises:
        StoreError: the online store did not answer.
    """
    users = withdrawn_users(Lake(home.lake))
    if users:
        store = open_store(settings, home)
        try:
            store.delete(group, users)
            store.write(CONSENT, [r for u, at in users.items() for r in consent_rows({u: False}, at)])
        finally:
            store.close()
    return len(users)
