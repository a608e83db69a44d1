"""Whether users permit personalization, from the store and from denials posted to this worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feature_repo.clock import EPOCH
from feature_repo.online.rows import OnlineRow
from serving.features.row_cache import Copies
from serving.pipeline.context import Row

HEARD_S = 600.0
"""How long a posted denial is remembered; by then the stream has written it to the store."""
USER_ID, SESSION_ID = "user_id", "session_id"
_DENIED = Row({"permitted": False}, EPOCH)


class Permissions:
    """Denials posted to this worker, which apply at once, before they reach the store.

    Args:
        size: maximum number of users, and of sessions, remembered.
        heard_s: see `HEARD_S`.
    """

    def __init__(self, size: int, heard_s: float = HEARD_S) -> None:
        self._heard = {name: Copies(size, heard_s) for name in (USER_ID, SESSION_ID)}

    def hear(self, record: Mapping[str, Any]) -> None:
        """Note the consent of an accepted record: for the user of a user record, or an event's session."""
        kind, permitted = record.get("record"), record.get("consent")
        name = USER_ID if kind == "user" else SESSION_ID
        key = record.get(name)
        if kind == "item" or key is None or (kind == "event" and permitted is None):
            return
        if permitted is False:
            self._heard[name].put(key, _DENIED)
        else:
            self._heard[name].drop(key)

    def denied(self, name: str, key: str | None) -> bool:
        """Whether a user (`USER_ID`) or a session (`SESSION_ID`) posted a denial."""
        return key is not None and self._heard[name].get(key) is not None


def permitted_by(row: Row | OnlineRow | None) -> bool | None:
    """Return the consent in a row of `user_consent`, or `None`. Treat any non-boolean value as a denial."""
    stated = None if row is None else row.values.get("permitted")
    return stated if stated is None else stated is True


def refused_in(session: Row | OnlineRow | None) -> bool:
    """Whether consent was denied in a session; the stream then keeps its row without any feature."""
    if session is None or session.values.get("event_count", 0) is not None:
        return False
    return all(value is None for value in session.values.values())


def of_another(session: Row | None, user_id: str) -> bool:
    """Whether a session belongs to another user, as on a shared device before the new user's first event."""
    return session is not None and session.values.get("user_id") not in (None, user_id)
