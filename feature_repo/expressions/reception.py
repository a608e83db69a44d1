"""Reception of items: click-through rates."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from feature_repo.expressions.events import IMPRESSION, engagements, slots
from feature_repo.group import CTR_PRIOR, CTR_UNSHOWN, POSITIONS


def click_through(touched: ir.Table) -> ir.Table:
    """Return `item_id`, `impressions`, `clicks`, `ctr` from rows with `engagements` and `slots` per item."""
    items = touched.group_by("item_id").agg(
        impressions=touched["slots"].sum().cast("float64"),
        clicks=touched["engagements"].sum().cast("float64"),
    )
    shown = items.filter(items.impressions > 0)
    mean = shown.agg(mean=(shown.clicks.sum() / shown.impressions.sum()).fill_null(CTR_UNSHOWN))
    items = items.cross_join(mean)
    smoothed = (items.clicks + CTR_PRIOR * items["mean"]) / (items.impressions + CTR_PRIOR)
    ctr = (items.impressions > 0).ifelse(smoothed, items["mean"])
    return items.mutate(ctr=ctr).drop("mean")


def mean_click_through(reception: ir.Table) -> ir.Table:
    """Return one row, `mean`: engagements per slot over the items that were shown."""
    shown = reception.filter(reception.impressions > 0)
    return shown.agg(mean=(shown.clicks.sum() / shown.impressions.sum()).fill_null(CTR_UNSHOWN))


def _at(position: ir.IntegerColumn) -> ir.IntegerColumn:
    return ibis.least(position.cast("int64"), POSITIONS - 1)


def shown_at(events: ir.Table) -> ir.Table:
    """Return `item_id`, `position`, `slots`, `first_seen`."""
    impressions = events.filter(events.event_type == IMPRESSION)
    shown = slots(impressions.select("item_id", "position", "items", "event_time"))
    return shown.group_by("item_id", position=_at(shown.position)).agg(
        slots=shown.count(), first_seen=shown.event_time.min()
    )


def clicked_at(events: ir.Table) -> ir.Table:
    """Return `position`, `clicks` of `weighed` events, by their own position or their request's slots."""
    engaged = engagements(events)
    own = engaged.filter(engaged.position.notnull())
    own = own.select(position=_at(own.position))
    asked = engaged.filter(engaged.position.isnull(), engaged.request_id.notnull())
    asked = asked.select(asked_for="request_id", asked_item="item_id")
    impressions = events.filter(events.event_type == IMPRESSION, events.request_id.notnull())
    impressions = impressions.semi_join(asked, impressions.request_id == asked.asked_for)
    shown = slots(impressions.select("request_id", "item_id", "position", "items"))
    placed = shown.join(asked, [shown.request_id == asked.asked_for, shown.item_id == asked.asked_item])
    both = ibis.union(own, placed.select(position=_at(placed.position)))
    return both.group_by("position").agg(clicks=both.count())


def expected_clicks(shown: ir.Table, clicked: ir.Table) -> ir.Table:
    """Return `item_id`, `expected`: the clicks that the positions of an item's slots alone would bring."""
    by_position = shown.group_by("position").agg(all_slots=shown["slots"].sum())
    clicked = clicked.select(_position="position", _clicks="clicks")
    by_position = by_position.left_join(clicked, by_position.position == clicked._position)
    rates = by_position.select(
        _at=by_position.position, rate=by_position._clicks.fill_null(0) / by_position.all_slots
    )
    rated = shown.join(rates, shown.position == rates._at)
    return rated.group_by("item_id").agg(expected=(rated["slots"] * rated["rate"]).sum())
