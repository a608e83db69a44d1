"""When an event counts, where clients' clocks are off. Applied before any fold of history.

Two rules:

- An event that names a request belongs to it. Stamped up to the tolerance before the request was shown, it
  counts as of the showing: no earlier, or what came of a list would be known before the list.
- An event stamped later than it came, by more than the tolerance, counts as of when it came. The stream knows
  when that is, the lake knows that it came no later than `ingested_at`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from feature_repo.contract.validation import Event
from feature_repo.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

TOLERANCE = timedelta(seconds=Settings.model_fields["clock_skew_s"].default)
IMPRESSION = "impression"


def tolerance_of(settings: Settings) -> timedelta:
    """How far a client's clock may be off."""
    return timedelta(seconds=settings.clock_skew_s)


def no_later_than(stamp: datetime, came: datetime | None, tolerance: timedelta) -> datetime:
    """As of when an event counts that came at a time; its stamp, where that is not known."""
    return came if came is not None and stamp > came + tolerance else stamp


def no_later_sql(tolerance: timedelta) -> str:
    """`no_later_than` over the lake's columns."""
    ahead = f"event_time > ingested_at + {_span(tolerance)}"
    return f"CASE WHEN {ahead} THEN ingested_at ELSE event_time END"


def after_their_requests(events: Iterable[Event], tolerance: timedelta) -> list[Event]:
    """The events in time order, none before the showing of the request it names; equal times as they came."""
    events = list(events)
    shown: dict[str, datetime] = {}
    for event in events:
        if event.event_type == IMPRESSION and event.request_id is not None:
            shown[event.request_id] = min(event.event_time, shown.get(event.request_id, event.event_time))
    counted = []
    for event in events:
        at = shown.get(event.request_id) if event.request_id is not None else None
        early = at is not None and at - tolerance <= event.event_time < at
        counted.append(msgspec.structs.replace(event, event_time=at) if early else event)
    return sorted(counted, key=lambda event: event.event_time)


def counted_sql(events: str, tolerance: timedelta) -> str:
    """A table of events of the lake with `event_time` as of which each counts, by both rules."""
    span = _span(tolerance)
    events = f"(SELECT * REPLACE ({no_later_sql(tolerance)} AS event_time) FROM {events})"
    shown = (
        f"SELECT request_id, min(event_time) AS shown FROM {events} "
        f"WHERE event_type = '{IMPRESSION}' AND request_id IS NOT NULL GROUP BY request_id"
    )
    early = f"e.event_time < r.shown AND e.event_time >= r.shown - {span}"
    counted = f"CASE WHEN {early} THEN r.shown ELSE e.event_time END"
    return (
        f"SELECT e.* REPLACE ({counted} AS event_time) FROM {events} e "
        f"LEFT JOIN ({shown}) r ON e.request_id = r.request_id"
    )


def ahead_of(table: pa.Table, tolerance: timedelta) -> pa.ChunkedArray:
    """Which rows of the lake's events are stamped later than they came."""
    import pyarrow.compute as pc  # noqa: PLC0415

    return pc.greater(table["event_time"], pc.add(table["ingested_at"], tolerance))


def _span(span: timedelta) -> str:
    return f"to_microseconds({span // timedelta(microseconds=1)})"
