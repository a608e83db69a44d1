"""Events for the statistics: who may be profiled, what is an engagement, what was shown."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import ibis
import ibis.expr.types as ir

from feature_repo.consent import permitted_column
from feature_repo.group import BatchParams, LakeTables

MICROSECOND = 1e-6
IMPRESSION = "impression"


def instant(time: datetime) -> ir.TimestampScalar:
    """Return a moment as a literal."""
    return ibis.literal(time, type="timestamp('UTC', 6)")


def age_us(time: ir.TimestampColumn, as_of: datetime) -> ir.IntegerColumn:
    """Return the microseconds from `time` to `as_of`.

    Uses zoneless times, because DuckDB takes four times as long to subtract zoned ones.
    """
    now = ibis.literal(as_of.astimezone(UTC).replace(tzinfo=None), type="timestamp(6)")
    return now.delta(time.cast("timestamp(6)"), unit="microsecond")


def decay(time: ir.TimestampColumn, as_of: datetime, half_life: timedelta) -> ir.FloatingColumn:
    """Return ``2^(-age / half_life)``."""
    rate = math.log(2) / (half_life / timedelta(microseconds=1))
    return (age_us(time, as_of) * -rate).exp()


def weight(event_type: ir.StringColumn, params: BatchParams) -> ir.FloatingColumn:
    """Return the engagement weight of an event type; 0 means no engagement."""
    engaging = [(name, float(w)) for name, w in sorted(params.weights.items()) if w > 0]
    if not engaging:
        return ibis.literal(0.0)
    return event_type.cases(*engaging, else_=0.0)


def weighed(events: ir.Table, params: BatchParams) -> ir.Table:
    """Add `weight`: 0 for events that are not engagements or have no item."""
    return events.mutate(weight=events.item_id.notnull().ifelse(weight(events.event_type, params), 0.0))


def marked(tables: LakeTables, params: BatchParams) -> ir.Table:
    """Add `weight` (0 without an item) and `permitted`: whether users and sessions may count the event.

    `user_id` is null if not permitted, so that no profile can count the event by mistake.
    """
    stated = tables.users.filter(tables.users.consent.notnull())
    stated = stated.select(_user_id="user_id", _stated="consent")
    events = tables.events.left_join(stated, tables.events.user_id == stated._user_id)
    columns = ("session_id", "event_type", "event_time", "item_id", "items", "request_id", "position")
    events = events.select(*columns, "user_id", "consent", "_stated")
    permitted = permitted_column(events.consent, events._stated, params.consent_default)
    return events.select(
        *columns,
        user_id=permitted.ifelse(events.user_id, ibis.null("string")),
        permitted=permitted,
        weight=events.item_id.notnull().ifelse(weight(events.event_type, params), 0.0),
    )


def engagements(events: ir.Table) -> ir.Table:
    """Keep the `weighed` events that engage with an item."""
    return events.filter(events.weight > 0)


def slots(impressions: ir.Table) -> ir.Table:
    """Return one row per slot shown: `item_id` and `position` (from 0) instead of `items`."""
    placed = impressions["items"].map(
        lambda slot, place: ibis.struct({"item_id": slot["item_id"], "position": place})
    )
    rows = impressions.mutate(slot=placed.unnest()).drop("items", "item_id", "position")
    return rows.mutate(item_id=rows["slot"]["item_id"], position=rows["slot"]["position"]).drop("slot")


def touches(events: ir.Table, by: str, params: BatchParams) -> ir.Table:
    """Sum engagements and slots shown per `by` (user or segment), permission and item."""
    return touched(each_touch(events, by, params), by)


def each_touch(events: ir.Table, by: str, params: BatchParams) -> ir.Table:
    """Return one row per engagement and per slot, with `by`, `permitted` and `item_id`.

    Columns: `clicks` (decayed weight), `engagements` (count), `shown` (decayed slots), `slots` (count).
    """
    fade = decay(events.event_time, params.as_of, params.affinity_half_life)
    events = events.mutate(_fade=fade)
    engaged = engagements(events)
    engaged = engaged.select(
        by,
        "permitted",
        "item_id",
        clicks=engaged.weight * engaged._fade,
        engagements=ibis.literal(1, "int64"),
        shown=ibis.literal(0.0),
        slots=ibis.literal(0, "int64"),
    )
    impressions = events.filter(events.event_type == IMPRESSION)
    shown = impressions.select(by, "permitted", "_fade", slot=impressions["items"].unnest())
    shown = shown.select(
        by,
        "permitted",
        item_id=shown["slot"]["item_id"],
        clicks=ibis.literal(0.0),
        engagements=ibis.literal(0, "int64"),
        shown=shown._fade,
        slots=ibis.literal(1, "int64"),
    )
    return ibis.union(engaged, shown)


def touched(each: ir.Table, *by: str) -> ir.Table:
    """Sum `each_touch`, or sums of it, per `by`, permission and item."""
    sums = {name: each[name].sum() for name in ("clicks", "engagements", "shown", "slots")}
    return each.group_by(*by, "permitted", "item_id").agg(**sums)
