"""Activity, segments and numeric tastes of users."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import ibis
import ibis.expr.types as ir

from feature_repo.catalogue import PRICE
from feature_repo.consent import permitted_column
from feature_repo.contract.columns import FACTS
from feature_repo.contract.normalization import normalized
from feature_repo.expressions.events import age_us, instant
from feature_repo.group import BatchParams

DAY_US = 86_400_000_000
PURCHASE = "purchase"


def activity(events: ir.Table, params: BatchParams, kinds: Sequence[str], days: Sequence[int]) -> ir.Table:
    """Return `user_id`, `last_event_time` and `<kind>_count_<days>d` per kind and window of `marked`."""
    own = events.filter(events.user_id.notnull())
    counts = {
        f"{kind}_count_{span}d": own.count(
            where=(own.event_type == kind) & (own.event_time >= instant(params.as_of - timedelta(days=span)))
        )
        for kind in kinds
        for span in days
    }
    return own.group_by("user_id").agg(last_event_time=own.event_time.max(), **counts)


def purchases(events: ir.Table, params: BatchParams, most: int) -> ir.Table:
    """Return `user_id`, `purchased_items`: the last `most` distinct items of `marked`, newest first."""
    bought = events.filter(
        (events.event_type == PURCHASE) & events.user_id.notnull() & events.item_id.notnull()
    )
    items = bought.group_by("user_id", "item_id").agg(last=bought.event_time.max())
    item = ibis.struct({"age": age_us(items["last"], params.as_of), "item_id": items.item_id})
    lists = items.group_by("user_id").agg(bought=item.collect())
    newest = lists.bought.sort()[:most]
    return lists.select("user_id", purchased_items=newest.map(lambda i: i["item_id"]))


def declared(users: ir.Table, params: BatchParams) -> ir.Table:
    """Return `user_id`, `declared` (segment or null), `listed`: whether the record alone makes a profile."""
    named = users.select("user_id", text=users[FACTS]["texts"]).unnest("text")
    named = named.filter(named["text"]["name"] == normalized(params.segment_attribute))
    segments = named.select("user_id", declared=named["text"]["value"])
    nothing = ibis.null("boolean")
    allowed = users.filter(permitted_column(nothing, users.consent, True))
    rows = allowed.left_join(segments.rename(_user="user_id"), allowed.user_id == segments.user_id)
    listed = permitted_column(nothing, rows.consent, ibis.literal(params.consent_default))
    return rows.select("user_id", "declared", listed=listed)


def numeric_tastes(engaged: ir.Table, numerics: ir.Table) -> ir.Table:
    """Return `user_id`, medians of numeric attributes and quartiles of price over the items engaged with.

    `engaged` has each user and item once.
    """
    met = engaged.join(numerics, "item_id")
    value = met["value"]
    priced = met["name"] == PRICE
    named = met.group_by("user_id", "name").agg(
        median=value.quantile(0.5),
        low=value.quantile(0.25, where=priced),
        high=value.quantile(0.75, where=priced),
    )
    pair = ibis.struct({"name": named["name"], "median": named["median"]})
    of_price = named["name"] == PRICE
    lists = named.group_by("user_id").agg(
        pairs=pair.collect(),
        price_low=named.low.max(where=of_price),
        price_median=named["median"].max(where=of_price),
        price_high=named.high.max(where=of_price),
    )
    lists = lists.mutate(pairs=lists.pairs.sort())
    return lists.mutate(
        numeric_keys=lists.pairs.map(lambda p: p["name"]),
        numeric_medians=lists.pairs.map(lambda p: p["median"]),
    ).drop("pairs")
