"""What a reading of the online store gives a request, and what bounds it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from msgspec import Struct

from serving.pipeline.context import HasRows, Row

UNANSWERED = frozenset({"store_failing", "store_late", "store_open"})
"""Codes of a reading that the store did not answer."""


class Reading(HasRows, Struct, eq=False):
    """The rows a request may use; none where the user denied consent, or may have.

    Attributes:
        rows: by the name that their group is ranked as.
        permitted: what the user's record states of consent; `None` for nothing.
        unknown: whether the user's word may have been lost with an emptied store; there are no rows then.
        read: whether the user's word was read, from the store or a copy, or there is no user.
        refused: whether an event of the session denied consent, and none gave it since.
        ages: seconds since the event time, by group; of a row over its time-to-live too.
        codes: what was late, failing, stale or a copy.
    """

    rows: dict[str, Row] = {}
    permitted: bool | None = None
    unknown: bool = False
    read: bool = True
    refused: bool = False
    ages: dict[str, float] = {}
    codes: list[str] = []


@dataclass(frozen=True)
class ReadLimits:
    """Bounds of the reader.

    Attributes:
        store: time the store may take.
        session_ttl: age beyond which a session counts as absent.
        session_copy: age up to which a copy of a session serves when the store does not.
        profile_copy: the same of user and segment profiles.
        segment_reuse: time a segment profile is used without asking the store again.
    """

    store: timedelta
    session_ttl: timedelta
    session_copy: timedelta
    profile_copy: timedelta
    segment_reuse: timedelta
