"""Reads the online groups of a request within its time budget, and says how old they are.

The store applies neither time-to-live nor freshness; both are applied here, from event times. What the store
does not deliver in time is taken from copies of earlier reads, as long as those are young enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
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
from serving.features.reading import UNANSWERED, Reading, ReadLimits
from serving.features.row_cache import Copies
from serving.features.row_source import Key, RowSource
from serving.monitoring.circuit_breaker import Breaker
from serving.pipeline.context import Row

USER, SEGMENT, SESSION, RECENT = "user_profile", "segment_profile", "session_profile", "user_recent"
PERMISSION = CONSENT.name
_CODE_OF = {USER: "user", SEGMENT: "segment", SESSION: "session", RECENT: "recent"}
log = logging.getLogger(__name__)


class FeatureReader:
    """User, segment and session rows of a request.

    Args:
        source: the online store.
        groups: declared groups by name.
        stream_stale: whether the stream lags so far that session rows cannot be trusted.
        breaker: of the store.
        permissions: denials heard at this worker's door.
        consent_complete: whether a user without a row of consent is known to have stated nothing.
        copies: rows of each group kept for when the store does not serve.
    """

    def __init__(
        self,
        source: RowSource,
        groups: Mapping[str, FeatureGroup],
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
        self._user, self._segment, self._session = groups[USER], groups[SEGMENT], groups[SESSION]
        self._recent = groups[RECENT]
        self._permissions = permissions or Permissions(copies)
        self._consent_complete = consent_complete
        self._stream_stale = stream_stale
        profile_copy = limits.profile_copy.total_seconds()
        self._copies = {
            USER: Copies(copies, profile_copy),
            SEGMENT: Copies(copies, profile_copy),
            SESSION: Copies(copies, limits.session_copy.total_seconds()),
            RECENT: Copies(copies, profile_copy),
            PERMISSION: Copies(copies, max(profile_copy, limits.session_copy.total_seconds())),
        }
        self._ttl = {g.name: g.ttl for g in (self._user, self._segment, self._session, self._recent)}
        self._ttl[SESSION] = min(self._session.ttl, limits.session_ttl)
        # What the stream writes is as fresh as the stream; a visitor who pauses does not make it stale.
        self._freshness = {g.name: g.freshness for g in (self._user, self._segment)}
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
        """Rows of a request; never raises for what the store does.

        Consent is asked for beside the features: whoever denied it has no rows here, whatever is stored.

        Args:
            now: the moment ages refer to.
            remaining_s: what is left of the request's budget; the store's own budget bounds it further.
            recent: whether the user's last day is wanted too.
            meanwhile: called once the store is asked, before its answer is waited for.
        """
        reading = Reading()
        if self._permissions.denied(USER_ID, user_id):
            reading.permitted = False
            return reading
        deadline = monotonic() + min(remaining_s, self._store_s)
        segment = self._likely_segment(user_id)
        keys: list[Key] = []
        if user_id is not None:
            keys += [(self._user, user_id), (CONSENT, user_id)]
            if recent:
                keys.append((self._recent, user_id))
        reading.refused = self._permissions.denied(SESSION_ID, session_id)
        if session_id is not None and not reading.refused:
            if self._stream_stale():
                reading.codes.append("stream_stale")
            else:
                keys.append((self._session, session_id))
        if not self._reusable(segment):
            keys.append((self._segment, segment))
        rows = await self._fetch(keys, deadline, reading, meanwhile)
        session = rows.get((SESSION, session_id or ""))
        await self._permit(user_id, session, rows, deadline, reading)
        if reading.permitted is False or reading.unknown:
            self._copies[USER].drop(user_id or "")
            self._copies[SESSION].drop(session_id or "")
            return reading
        if refused_in(session):
            reading.refused, session = True, None
        reading.user = self._judge(USER, rows.get((USER, user_id or "")), now, reading)
        if user_id is not None and of_another(session, user_id):
            reading.codes.append("session_of_another")
            session = None
        reading.session = self._judge(SESSION, session, now, reading)
        reading.recent = self._judge(RECENT, rows.get((RECENT, user_id or "")), now, reading)
        wanted = str(reading.user.values.get("segment") or EVERYONE) if reading.user else EVERYONE
        reading.segment = await self._segment_row(wanted, rows, deadline, now, reading)
        return reading

    async def _permit(
        self,
        user_id: str | None,
        session: Row | None,
        rows: Mapping[tuple[str, str], Row],
        deadline: float,
        reading: Reading,
    ) -> None:
        """Set `permitted`, for a request that names no user by the one its session belongs to."""
        owner = user_id if user_id is not None or session is None else session.values.get("user_id")
        if not isinstance(owner, str):
            return
        if user_id is None:
            if self._permissions.denied(USER_ID, owner):
                reading.permitted = False
                return
            rows = await self._fetch([(CONSENT, owner)], deadline, reading)
        row = rows.get((PERMISSION, owner))
        reading.permitted = permitted_by(row)
        reading.read = row is not None or UNANSWERED.isdisjoint(reading.codes)
        if row is None and not self._consent_complete():
            reading.unknown = session is not None or any((group, owner) in rows for group in (USER, RECENT))

    async def warm(self) -> None:
        """Read the prior of last resort, so that it is at hand when the store is not."""
        await self._fetch([(self._segment, EVERYONE)], monotonic() + 5.0, Reading())

    async def _segment_row(
        self,
        segment: str,
        rows: Mapping[tuple[str, str], Row],
        deadline: float,
        now: datetime,
        reading: Reading,
    ) -> Row | None:
        key = (SEGMENT, segment)
        row = rows.get(key)
        if row is None and self._reusable(segment):
            row = self._copies[SEGMENT].get(segment)
        elif row is None:
            row = (await self._fetch([(self._segment, segment)], deadline, reading)).get(key)
        if row is None and segment != EVERYONE:
            row = self._copies[SEGMENT].get(EVERYONE)
        return self._judge(SEGMENT, row, now, reading)

    def _likely_segment(self, user_id: str | None) -> str:
        """The segment the user was in when last read: one round trip then fetches all three rows."""
        copy = self._copies[USER].get(user_id) if user_id is not None else None
        return str(copy.values.get("segment") or EVERYONE) if copy is not None else EVERYONE

    def _reusable(self, segment: str) -> bool:
        age = self._copies[SEGMENT].age(segment)
        return age is not None and age <= self._segment_reuse_s

    async def _fetch(
        self,
        keys: Sequence[Key],
        deadline: float,
        reading: Reading,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[tuple[str, str], Row]:
        """Rows by group and key: from the store, else copies. Absent rows are left out."""
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
                log.warning("%s", error)  # a few, then the breaker is open
            code = "store_late" if isinstance(error, TimeoutError) else "store_failing"
            return self._from_copies(keys, code, reading)
        except BaseException:
            self._breaker.release()
            raise
        self._breaker.record(True)
        rows = {}
        for (group, key), row in zip(keys, found, strict=True):
            if row is None:
                self._copies[group.name].drop(key)
                continue
            rows[group.name, key] = copied = Row(row.values, row.event_time)
            self._copies[group.name].put(key, copied)
        return rows

    def _from_copies(self, keys: Sequence[Key], code: str, reading: Reading) -> dict[tuple[str, str], Row]:
        if code not in reading.codes:
            reading.codes.append(code)
        rows = {}
        for group, key in keys:
            copy = self._copies[group.name].get(key)
            if copy is not None:
                rows[group.name, key] = Row(copy.values, copy.event_time, cached=True)
        return rows

    def _judge(self, name: str, row: Row | None, now: datetime, reading: Reading) -> Row | None:
        """The row if it may be used; its age and what is wrong with it go into the reading."""
        if row is None:
            return None
        age, what = now - row.event_time, _CODE_OF[name]
        reading.ages[name] = max(age.total_seconds(), 0.0)
        if age > self._ttl[name]:
            reading.codes.append(f"{what}_expired")
            return None
        freshness = self._freshness.get(name)
        if freshness is not None and age > freshness:
            reading.codes.append(f"{what}_stale")
        if row.cached:
            reading.codes.append(f"{what}_cached")
        return row
