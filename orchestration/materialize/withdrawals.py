"""Consent on the batch side: users who withdrew it have no online row, even if an older build wrote one."""

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
"""Users whose newest record denies consent. A newest record without a statement denies nothing."""
STATED = """
SELECT user_id, arg_max({'said': consent}, ingested_at), epoch_us(max(ingested_at))
FROM read_parquet($files, union_by_name = true)
GROUP BY user_id
"""
"""The statement of each user's newest record, wrapped in a struct because `arg_max` skips a bare null."""


def withdrawn_users(lake: Lake) -> dict[str, datetime]:
    """Return the users whose newest record denies consent, by ascending id, with that record's lake time."""
    files = lake.files("user")
    if not files:
        return {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(DENIED, {"files": files}).fetchall()
    return {user_id: time_of(micros) for user_id, micros in found}


def state_consent(store: OnlineStore, settings: Settings, home: Home) -> frozenset[str]:
    """Write users' consent to the store before any of their rows; return the users who deny it today.

    A complete store receives only the denials, which the stream may have missed. A new or emptied store
    receives every statement in the log and the lake, and is complete from then on. Each statement carries its
    record's time, so consent given later stays valid.

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
    """Delete the online rows of users who withdrew consent and record the denial there; return their number.

    A build leaves these users out but cannot delete rows of earlier builds. The stream deletes at once; this
    repairs what it missed.

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
    """Sync the log to the lake, because a denial may have arrived since the last sync."""
    try:
        sync_lake(settings, home)
    except HeadraceError as error:
        logger.warning(
            "consent: the log cannot be read (%s); until it can, users without a statement in the lake are "
            "not personalized",
            error,
        )
        return False
    return True


def _statements(lake: Lake) -> Iterator[list[OnlineRow]]:
    """Yield rows with the newest statement of each user, a few thousand at a time."""
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
