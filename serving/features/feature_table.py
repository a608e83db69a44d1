"""Online features of many entities: reads them, checks age and consent, and builds Feast's answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from feature_repo.clock import EPOCH
from feature_repo.consent import permitted
from feature_repo.errors import StoreError
from feature_repo.group import SESSION, USER, DType, FeatureGroup
from feature_repo.online.consent_rows import CONSENT
from feature_repo.online.rows import OnlineRow
from serving.features.consent_denials import SESSION_ID, USER_ID, Permissions, permitted_by, refused_in
from serving.features.feature_plan import PlannedView
from serving.features.row_source import Key, RowSource
from serving.schemas.errors import ApiError

KEYS_AT_ONCE = 64
"""Rows per round trip. They are decoded on the event loop, which must not stall for longer."""
PRESENT, ABSENT, EXPIRED = "PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE"
"""Feast's statuses; a stored null counts as present."""
_NEVER = "1970-01-01T00:00:00Z"


class Column(Struct, frozen=True):
    """One feature, or one join key, of all entities, with event times in whole seconds as in Feast."""

    values: list[Any]
    statuses: list[str]
    event_timestamps: list[str]


class ViewAges(Struct, frozen=True):
    """The age of the rows of one view, and why some are not shown; one entry per entity.

    Attributes:
        event_times: exact event time; null without a row.
        age_s: seconds since the event time.
        expired: older than the view's time-to-live; the values are null.
        stale: older than the group's freshness budget; the values are shown.
        withheld: consent is denied; the answer is the same as without a row.
    """

    event_times: list[datetime | None]
    age_s: list[float | None]
    expired: list[bool]
    stale: list[bool]
    withheld: list[bool]


class FeatureNames(Struct, frozen=True):
    """Names of the columns, in order."""

    feature_names: list[str]


class FeaturesAnswer(Struct, frozen=True):
    """Feast's answer to ``get-online-features``, and `views`: ages by view."""

    metadata: FeatureNames
    results: list[Column]
    views: dict[str, ViewAges]


class FeatureTable:
    """Reads online features for other teams' serving code.

    Args:
        source: the online store.
        permissions: denials posted to this worker.
        consent_default: consent of a user whose record states none.
        consent_complete: whether a missing consent row means that the user has stated nothing.
        session_ttl: sessions older than this count as expired, even if the view's time-to-live is longer.
        clock: current time, for ages.
    """

    def __init__(
        self,
        source: RowSource,
        permissions: Permissions,
        *,
        consent_default: bool,
        session_ttl: timedelta,
        clock: Callable[[], datetime],
        consent_complete: Callable[[], bool] = lambda: True,
    ) -> None:
        self._source = source
        self._permissions = permissions
        self._consent_default = consent_default
        self._consent_complete = consent_complete
        self._session_ttl = session_ttl
        self._clock = clock

    async def read(
        self, plan: Sequence[PlannedView], entities: Mapping[str, Sequence[str]], budget_s: float
    ) -> FeaturesAnswer:
        """Read the features of all entities.

        Args:
            entities: keys by join key; lists of equal length.

        Raises:
            ApiError: 503, the store is late or failing.
        """
        try:
            async with asyncio.timeout(budget_s):
                rows, consents = await self._rows(plan, entities)
        except TimeoutError as error:
            message = "the online store is too slow now; send the request again, or with fewer entities"
            raise ApiError(503, "store_late", "", message, retry_after_s=1) from error
        except StoreError as error:
            raise ApiError(503, "store_failing", "", "the online store cannot be read now", 2) from error
        now = self._clock()
        columns, names = _key_columns(entities)
        views = {}
        for view in plan:
            keys = entities[view.group.entity.join_key]
            found = [rows.get((view.group.view_name, key)) for key in keys]
            judged = [
                self._judge(view.group, key, row, consents, now) for key, row in zip(keys, found, strict=True)
            ]
            columns += _columns(view, judged)
            names += view.names
            views[view.group.view_name] = _ages(judged)
        return FeaturesAnswer(FeatureNames(names), columns, views)

    async def _rows(
        self, plan: Sequence[PlannedView], entities: Mapping[str, Sequence[str]]
    ) -> tuple[dict[tuple[str, str], OnlineRow], dict[str, bool]]:
        """Return the rows by view and key, and whether each user involved permits personalization.

        Consent of users is read together with their rows; that of session owners takes a second round trip.
        """
        asked = [(v.group, key) for v in plan for key in dict.fromkeys(entities[v.group.entity.join_key])]
        of_users = any(view.group.entity == USER for view in plan)
        users = list(dict.fromkeys(entities[USER.join_key])) if of_users else []
        found = await self._read([*asked, *((CONSENT, user) for user in users)])
        rows = {
            (group.view_name, key): row
            for (group, key), row in zip(asked, found, strict=False)
            if row is not None
        }
        stated = dict(zip(users, found[len(asked) :], strict=True))
        sessions = {view.group.view_name for view in plan if view.group.entity == SESSION}
        owners = {row.values.get("user_id") for (view, _), row in rows.items() if view in sessions}
        if others := [owner for owner in owners if isinstance(owner, str) and owner not in stated]:
            further = await self._read([(CONSENT, owner) for owner in others])
            stated |= dict(zip(others, further, strict=True))
        return rows, {user: self._permits(user, row) for user, row in stated.items()}

    def _permits(self, user: str, row: OnlineRow | None) -> bool:
        if self._permissions.denied(USER_ID, user):
            return False
        if row is None and not self._consent_complete():
            return False
        return permitted(None, permitted_by(row), self._consent_default)

    async def _read(self, keys: Sequence[Key]) -> list[OnlineRow | None]:
        found: list[OnlineRow | None] = []
        for start in range(0, len(keys), KEYS_AT_ONCE):
            found += await self._source.read(keys[start : start + KEYS_AT_ONCE])
        return found

    def _judge(
        self,
        group: FeatureGroup,
        key: str,
        row: OnlineRow | None,
        consents: Mapping[str, bool],
        now: datetime,
    ) -> _Judged:
        if row is None:
            return _Judged(None)
        age, ttl = now - row.event_time, group.ttl
        owner: Any = key if group.entity == USER else None
        if group.entity == SESSION:
            ttl, owner = min(ttl, self._session_ttl), row.values.get("user_id")
            if self._permissions.denied(SESSION_ID, key) or refused_in(row):
                return _Judged(None, withheld=True)
        if isinstance(owner, str) and not consents[owner]:
            return _Judged(None, withheld=True)
        stale = group.batch is not None and age > group.freshness
        return _Judged(row, max(age.total_seconds(), 0.0), age > ttl, stale)


class _Judged(Struct, frozen=True):
    """A row, or the reason why none is shown."""

    row: OnlineRow | None
    age_s: float | None = None
    expired: bool = False
    stale: bool = False
    withheld: bool = False


def _key_columns(entities: Mapping[str, Sequence[str]]) -> tuple[list[Column], list[str]]:
    columns = [Column(list(keys), [PRESENT] * len(keys), [_NEVER] * len(keys)) for keys in entities.values()]
    return columns, list(entities)


def _columns(view: PlannedView, judged: Sequence[_Judged]) -> list[Column]:
    """Build the columns of a view, which share their statuses and times."""
    hidden = view.hidden
    rows = [hidden if entry.row is None or entry.expired else entry.row.values for entry in judged]
    statuses = [ABSENT if e.row is None else EXPIRED if e.expired else PRESENT for e in judged]
    times = [_NEVER if entry.row is None else _rfc3339(entry.row.event_time) for entry in judged]
    found = list(map(list, zip(*map(view.pick, rows), strict=True))) or [[] for _ in view.features]
    for place, dtype in view.converted:
        convert = _CONVERTED[dtype]
        found[place] = [None if value is None else convert(value) for value in found[place]]
    return [Column(values, statuses, times) for values in found]


def _ages(judged: Sequence[_Judged]) -> ViewAges:
    return ViewAges(
        [None if entry.row is None else entry.row.event_time for entry in judged],
        [entry.age_s for entry in judged],
        [entry.expired for entry in judged],
        [entry.stale for entry in judged],
        [entry.withheld for entry in judged],
    )


def _number(value: float) -> float | str:
    """Encode a number like Feast's server: non-finite numbers, which JSON lacks, as text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(values: Sequence[float]) -> Sequence[float | str]:
    return values if all(map(math.isfinite, values)) else list(map(_number, values))


def _seconds(value: datetime) -> int:
    return (value - EPOCH) // timedelta(seconds=1)


_CONVERTED: dict[DType, Callable[[Any], Any]] = {
    DType.TIMESTAMP: _seconds,
    DType.FLOAT64: _number,
    DType.FLOAT64S: _numbers,
    DType.FLOAT32S: _numbers,
}
"""Conversions of the types in `CONVERTED` to the encoding of Feast's server."""


def _rfc3339(time: datetime) -> str:
    return time.replace(tzinfo=None, microsecond=0).isoformat() + "Z"
