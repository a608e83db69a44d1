"""Reads the online groups of a request within its time budget, and reports their age.

The store applies neither time-to-live nor freshness; the reader applies both, from event times. If the store
does not answer in time, the reader falls back to recent cached rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic

from feature_repo.errors import StoreError
from feature_repo.group import SEGMENT, FeatureGroup
from feature_repo.groups.segment_profile import EVERYONE
from feature_repo.online.consent_rows import CONSENT
from serving.features.consent_denials import (
    SESSION_ID,
    USER_ID,
    Permissions,
    of_another,
    permitted_by,
    refused_in,
)
from serving.features.ranked_groups import RankedGroups
from serving.features.reading import UNANSWERED, Reading, ReadLimits
from serving.features.row_cache import Copies
from serving.features.row_source import Key, RowSource
from serving.monitoring.circuit_breaker import Breaker
from serving.pipeline.context import Row

log = logging.getLogger(__name__)


class FeatureReader:
    """Reads the user, segment and session rows of a request.

    Args:
        source: the online store.
        groups: the groups that rankings read.
        stream_stale: whether the stream lags too far for session rows to be trusted.
        breaker: circuit breaker of the store.
        permissions: denials posted to this worker.
        consent_complete: whether a missing consent row means that the user has stated nothing.
        copies: maximum number of cached rows of each group.
    """

    def __init__(
        self,
        source: RowSource,
        groups: RankedGroups,
        limits: ReadLimits,
        *,
        stream_stale: Callable[[], bool] = lambda: False,
        breaker: Breaker | None = None,
        permissions: Permissions | None = None,
        consent_complete: Callable[[], bool] = lambda: True,
        copies: int = 10_000,
    ) -> None:
        self._source = source
        self._breaker = breaker or Breaker("store")
        self._groups = groups
        self._of_user: tuple[FeatureGroup, ...] = (*groups.users, CONSENT)
        self._of_user_asked = (*self._of_user, *groups.asked)
        self._permissions = permissions or Permissions(copies)
        self._consent_complete = consent_complete
        self._stream_stale = stream_stale
        session_copy, profile_copy = limits.session_copy.total_seconds(), limits.profile_copy.total_seconds()
        self._copies = {CONSENT: Copies(copies, max(profile_copy, session_copy))}
        self._copies |= {group: Copies(copies, session_copy) for group in groups.sessions}
        profiles = (*groups.users, *groups.asked, *groups.segments)
        self._copies |= {group: Copies(copies, profile_copy) for group in profiles}
        self._ttl = {group: group.ttl for group in profiles}
        self._ttl |= {group: min(group.ttl, limits.session_ttl) for group in groups.sessions}
        self._store_s = limits.store.total_seconds()
        self._segment_reuse_s = limits.segment_reuse.total_seconds()

    async def read(
        self,
        user_id: str | None,
        session_id: str | None,
        now: datetime,
        remaining_s: float,
        *,
        recent: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Reading:
        """Read the rows of a request. A failing store never raises here.

        Consent is read together with the features. If a user denied it, no rows are returned.

        Args:
            now: time that ages refer to.
            remaining_s: rest of the request's budget; the store's own budget limits it further.
            recent: whether to read the groups that only a rule on purchases needs.
            meanwhile: called after the request to the store is sent, before awaiting its answer.
        """
        reading = Reading()
        if self._permissions.denied(USER_ID, user_id):
            reading.permitted = False
            return reading
        deadline = monotonic() + min(remaining_s, self._store_s)
        segment = self._likely_segment(user_id)
        groups = self._groups
        keys: list[Key] = []
        if user_id is not None:
            keys += [(group, user_id) for group in (self._of_user_asked if recent else self._of_user)]
        reading.refused = self._permissions.denied(SESSION_ID, session_id)
        if session_id is not None and not reading.refused:
            if self._stream_stale():
                reading.codes.append("stream_stale")
            else:
                keys += [(group, session_id) for group in groups.sessions]
        if not self._reusable(segment):
            keys += [(group, segment) for group in groups.segments]
        rows = await self._fetch(keys, deadline, reading, meanwhile)
        session = rows.get((groups.session, session_id or ""))
        await self._permit(user_id, session, rows, deadline, reading)
        if reading.permitted is False or reading.unknown:
            for group in (*groups.users, *groups.asked):
                self._copies[group].drop(user_id or "")
            for group in groups.sessions:
                self._copies[group].drop(session_id or "")
            return reading
        self._judge_personal(user_id, session_id, rows, now, reading)
        await self._judge_segments(rows, deadline, now, reading)
        return reading

    def _judge_personal(
        self,
        user_id: str | None,
        session_id: str | None,
        rows: Mapping[Key, Row],
        now: datetime,
        reading: Reading,
    ) -> None:
        """Add the rows of the user, and of the session unless it is another user's or denied consent."""
        groups = self._groups
        session = rows.get((groups.session, session_id or ""))
        for group in groups.users:
            self._judge(group, rows.get((group, user_id or "")), now, reading)
        if refused_in(session):
            reading.refused = True
        elif user_id is not None and of_another(session, user_id):
            reading.codes.append("session_of_another")
        else:
            for group in groups.sessions:
                self._judge(group, rows.get((group, session_id or "")), now, reading)
        for group in groups.asked:
            self._judge(group, rows.get((group, user_id or "")), now, reading)

    async def _permit(
        self,
        user_id: str | None,
        session: Row | None,
        rows: Mapping[Key, Row],
        deadline: float,
        reading: Reading,
    ) -> None:
        """Set `permitted`. A request without a user takes the consent of the session's owner."""
        owner = user_id if user_id is not None or session is None else session.values.get("user_id")
        if not isinstance(owner, str):
            return
        if user_id is None:
            if self._permissions.denied(USER_ID, owner):
                reading.permitted = False
                return
            rows = await self._fetch([(CONSENT, owner)], deadline, reading)
        row = rows.get((CONSENT, owner))
        reading.permitted = permitted_by(row)
        reading.read = row is not None or UNANSWERED.isdisjoint(reading.codes)
        if row is None and not self._consent_complete():
            users = (*self._groups.users, *self._groups.asked)
            reading.unknown = session is not None or any((group, owner) in rows for group in users)

    async def warm(self) -> None:
        """Cache the segment rows of everyone, the last fallback while the store does not answer."""
        keys = [(group, EVERYONE) for group in self._groups.segments]
        await self._fetch(keys, monotonic() + 5.0, Reading())

    async def _judge_segments(
        self, rows: Mapping[Key, Row], deadline: float, now: datetime, reading: Reading
    ) -> None:
        """Add the rows of the user's segment, or else those of everyone."""
        profile = reading.rows.get(self._groups.profile.ranked_as)
        segment = EVERYONE if profile is None else str(profile.values.get(SEGMENT.join_key) or EVERYONE)
        reusable = self._reusable(segment)
        missing = [(group, segment) for group in self._groups.segments if (group, segment) not in rows]
        if missing and not reusable:
            rows = {**rows, **await self._fetch(missing, deadline, reading)}
        for group in self._groups.segments:
            row = rows.get((group, segment))
            if row is None and reusable:
                row = self._copies[group].get(segment)
            if row is None:
                row = self._copies[group].get(EVERYONE)
            self._judge(group, row, now, reading)

    def _likely_segment(self, user_id: str | None) -> str:
        """Return the segment of the user's cached profile, so that one round trip fetches all rows."""
        copy = None if user_id is None else self._copies[self._groups.profile].get(user_id)
        return EVERYONE if copy is None else str(copy.values.get(SEGMENT.join_key) or EVERYONE)

    def _reusable(self, segment: str) -> bool:
        ages = [self._copies[group].age(segment) for group in self._groups.segments]
        return all(age is not None and age <= self._segment_reuse_s for age in ages)

    async def _fetch(
        self,
        keys: Sequence[Key],
        deadline: float,
        reading: Reading,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[Key, Row]:
        """Fetch rows by group and key from the store, or else from the cache. Absent rows are left out."""
        if not keys:
            return {}
        seconds = deadline - monotonic()
        if seconds <= 0:
            return self._from_copies(keys, "store_late", reading)
        if not self._breaker.allow():
            return self._from_copies(keys, "store_open", reading)
        try:
            async with asyncio.timeout(seconds):
                asked = self._source.read(keys)
                try:
                    meanwhile()
                except BaseException:
                    asked.close()
                    raise
                found = await asked
        except (TimeoutError, StoreError) as error:
            self._breaker.record(False)
            if isinstance(error, StoreError):
                log.warning("%s", error)  # only a few times: then the breaker opens
            code = "store_late" if isinstance(error, TimeoutError) else "store_failing"
            return self._from_copies(keys, code, reading)
        except BaseException:
            self._breaker.release()
            raise
        self._breaker.record(True)
        rows = {}
        for (group, key), row in zip(keys, found, strict=True):
            if row is None:
                self._copies[group].drop(key)
                continue
            rows[group, key] = copied = Row(row.values, row.event_time)
            self._copies[group].put(key, copied)
        return rows

    def _from_copies(self, keys: Sequence[Key], code: str, reading: Reading) -> dict[Key, Row]:
        if code not in reading.codes:
            reading.codes.append(code)
        rows = {}
        for group, key in keys:
            copy = self._copies[group].get(key)
            if copy is not None:
                rows[group, key] = Row(copy.values, copy.event_time, cached=True)
        return rows

    def _judge(self, group: FeatureGroup, row: Row | None, now: datetime, reading: Reading) -> None:
        """Add the row's age and codes to the reading, and the row itself unless it has expired."""
        if row is None:
            return
        age, what = now - row.event_time, group.ranked_as
        reading.ages[group.name] = max(age.total_seconds(), 0.0)
        if age > self._ttl[group]:
            reading.codes.append(f"{what}_expired")
            return
        # Stream rows are as fresh as the stream: a visitor's pause does not make them stale.
        if group.batch is not None and age > group.freshness:
            reading.codes.append(f"{what}_stale")
        if row.cached:
            reading.codes.append(f"{what}_cached")
        reading.rows[what] = row
