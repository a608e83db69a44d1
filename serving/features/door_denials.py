"""Finds users who deny consent when events are posted, from this worker's memory and the online store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from time import monotonic

from feature_repo.errors import StoreError
from feature_repo.online import OnlineStore
from feature_repo.online.consent_rows import CONSENT
from serving.features.consent_denials import USER_ID, Permissions, permitted_by

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""How long not to query a store after a failure, so that events do not wait for it one by one."""


class Denials:
    """Finds users who deny consent. Blocking and thread-safe.

    Args:
        permissions: denials posted to this worker.
        store: the consent of all users. While it fails only `permissions` counts; the lake omits the rest.
        clock: monotonic seconds.
    """

    def __init__(
        self, permissions: Permissions, store: OnlineStore, clock: Callable[[], float] = monotonic
    ) -> None:
        self._permissions = permissions
        self._store = store
        self._clock = clock
        self._not_before = clock()

    def __call__(self, users: Collection[str]) -> Collection[str]:
        """Return the users who deny consent."""
        denying = {user_id for user_id in users if self._permissions.denied(USER_ID, user_id)}
        rest = [user_id for user_id in users if user_id not in denying]
        if not rest or self._clock() < self._not_before:
            return denying
        try:
            rows = self._store.read([(CONSENT, user_id) for user_id in rest])
        except StoreError as error:
            self._not_before = self._clock() + AGAIN_S
            log.warning("cannot read the consent of users, so their queries are logged: %s", error)
            return denying
        return denying.union(u for u, row in zip(rest, rows, strict=True) if permitted_by(row) is False)
