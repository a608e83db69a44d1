"""Consent, on the batch side: who withdrew it has no row online, whatever an older build wrote."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime

import duckdb

from feature_repo.clock import time_of
from feature_repo.errors import HeadraceError
from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.online import OnlineRow, OnlineStore, open_store
from feature_repo.online.consent_rows import COMPLETE, CONSENT, consent_rows, is_complete
from feature_repo.settings import Settings
from orchestration.builds.lake_sync import sync_lake

_ROWS = 10_000
logger = logging.getLogger(__name__)

DENIED = """
SELECT user_id, epoch_us(max(ingested_at)) FROM read_parquet($files, union_by_name = true)
GROUP BY user_id HAVING NOT arg_max(coalesce(consent, true), ingested_at)
ORDER BY user_id
"""
"""Users whose newest record denies consent; a newest record that states nothing denies nothing."""
STATED = """
SELECT user_id, arg_max({'said': consent}, ingested_at), epoch_us(max(ingested_at))
FROM read_parquet($files, union_by_name = true)
GROUP BY user_id
"""
"""What each user's newest record states; in a struct, since a null of its own would be passed over."""


def withdrawn_users(lake: Lake) -> dict[str, datetime]:
    """The users whose newest record denies consent, by ascending id, and when it came to the lake."""
    files = lake.files("user")
    if not files:
        return {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(DENIED, {"files": files}).fetchall()
    return {user_id: time_of(micros) for user_id, micros in found}


def state_consent(store: OnlineStore, settings: Settings, home: Home) -> frozenset[str]:
    """Bring what users stated to the store, before any row of theirs; returns who denies today.

    A store that is complete is told the denials, which the stream may have missed. One that is not, since it
    is new or was emptied, is told everything the log and the lake hold, and is complete from then on. What is
    said is as old as the record: consent given since stands.

    Raises:
        StoreError: the online store did not answer.
    """
    complete = is_complete(store)
    known = complete or _log_is_in_the_lake(settings, home)
    denied = withdrawn_users(lake := Lake(home.lake))
    if complete:
        store.write(CONSENT, [r for u, at in denied.items() for r in consent_rows({u: False}, at)])
        return frozenset(denied)
    for rows in _statements(lake):
        store.write(CONSENT, rows)
    if known:
        store.put_marks({COMPLETE: b"1"})
    return frozenset(denied)


def forget_withdrawn(group: FeatureGroup, settings: Settings, home: Home) -> int:
    """Delete the online rows of users who withdrew consent, and say so there; how many users that are.

    A build leaves them out but cannot take back what one before it wrote; the stream deletes at once, and
    this repairs what it missed.

    Raises:
        StoreError: the online store did not answer.
    """
    store = open_store(settings, home)
    try:
        denied = state_consent(store, settings, home)
        if denied:
            store.delete(group, sorted(denied))
    finally:
        store.close()
    return len(denied)


def _log_is_in_the_lake(settings: Settings, home: Home) -> bool:
    """Bring the log to the lake: a denial may have come since the last time."""
    try:
        sync_lake(settings, home)
    except HeadraceError as error:
        logger.warning(
            "consent: the log cannot be read (%s); users who stated nothing in the lake are not personalized "
            "until it can",
            error,
        )
        return False
    return True


def _statements(lake: Lake) -> Iterator[list[OnlineRow]]:
    """Rows of what each user's newest record states, some thousand at a time."""
    if not (files := lake.files("user")):
        return
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(STATED, {"files": files})
        while users := found.fetchmany(_ROWS):
            yield [
                row
                for user_id, stated, micros in users
                if stated["said"] is not None
                for row in consent_rows({user_id: stated["said"]}, time_of(micros))
            ]
