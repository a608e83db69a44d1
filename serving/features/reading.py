"""The result of reading the online store for a request, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from msgspec import Struct

from serving.pipeline.context import HasRows, Row

UNANSWERED = frozenset({"store_failing", "store_late", "store_open"})
"""Codes of a reading without an answer from the store."""


class Reading(HasRows, Struct, eq=False):
    """The rows a request may use; none if the user denied consent, or may have denied it.

    Attributes:
        rows: by `FeatureGroup.ranked_as`.
        permitted: consent in the user's record; `None` if not stated.
        unknown: whether a denial may have been lost with an emptied store; there are no rows then.
        read: whether the user's consent was read from store or cache, or there is no user.
        refused: whether an event of the session denied consent and none gave it since.
        ages: seconds since the event time, by group; includes expired rows.
        codes: what was late, failing, stale or cached.
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
    """Limits of the reader.

    Attributes:
        store: time limit of the store.
        session_ttl: age above which a session counts as absent.
        session_copy: maximum age of a cached session as a fallback.
        profile_copy: maximum age of a cached user or segment profile as a fallback.
        segment_reuse: time for which a cached segment profile is used without reading the store.
    """

    store: timedelta
    session_ttl: timedelta
    session_copy: timedelta
    profile_copy: timedelta
    segment_reuse: timedelta
