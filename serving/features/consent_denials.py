"""Whether people permit personalization: by what the store holds, and by what came to this worker's door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feature_repo.clock import EPOCH
from feature_repo.online.rows import OnlineRow
from serving.features.row_cache import Copies
from serving.pipeline.context import Row

HEARD_S = 600.0
"""How long a denial heard at the door holds by itself; by then the stream has brought it to the store."""
USER_ID, SESSION_ID = "user_id", "session_id"
_DENIED = Row({"permitted": False}, EPOCH)


class Permissions:
    """What was stated at this worker's door: a denial holds at once, before the store knows of it.

    Args:
        size: users and sessions remembered.
        heard_s: see `HEARD_S`.
    """

    def __init__(self, size: int, heard_s: float = HEARD_S) -> None:
        self._heard = {name: Copies(size, heard_s) for name in (USER_ID, SESSION_ID)}

    def hear(self, record: Mapping[str, Any]) -> None:
        """A record was taken in. One of a user holds for the user, one of an event for its session."""
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
        """Whether a denial of a user (`USER_ID`) or in a session (`SESSION_ID`) was heard."""
        return key is not None and self._heard[name].get(key) is not None


def permitted_by(row: Row | OnlineRow | None) -> bool | None:
    """What a row of `user_consent` states; `None` for nothing. What is no truth value counts as denied."""
    stated = None if row is None else row.values.get("permitted")
    return stated if stated is None else stated is True


def refused_in(session: Row | OnlineRow | None) -> bool:
    """Whether consent was refused in a session: the stream then keeps a row of it without any feature."""
    if session is None or session.values.get("event_count", 0) is not None:
        return False
    return all(value is None for value in session.values.values())


def of_another(session: Row | None, user_id: str) -> bool:
    """Whether a session is of another user: on a shared device a request may come before the first event."""
    return session is not None and session.values.get("user_id") not in (None, user_id)
