"""Preferences of a segment's users, the prior for cold users."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from feature_repo.group import (
    NON_NEGATIVE,
    SEGMENT,
    BatchParams,
    DType,
    Expectation,
    Feature,
    FeatureGroup,
    LakeTables,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

EVERYONE = "all"
"""The segment of all users, the prior of last resort."""

TOP_ITEMS = 100
"""Number of items kept in `top_items`."""


def expression(tables: LakeTables, params: BatchParams) -> ir.Table:
    """Compute one row per segment with users, and one for all users, each profiled like a single user."""
    import ibis  # noqa: PLC0415 - half a second, and everything imports the declarations

    from feature_repo.expressions import affinity, events, items, reception  # noqa: PLC0415

    profiles = tables.groups["user_profile"].select(_user="user_id", segment="segment")
    everyone = profiles.agg(user_count=profiles.count()).mutate(segment=ibis.literal(EVERYONE))
    named = profiles.filter(profiles.segment != EVERYONE)
    counts = ibis.union(
        named.group_by("segment").agg(user_count=named.count()),
        everyone.select("segment", "user_count"),
    )
    marked = events.marked(tables, params)
    marked = marked.left_join(named, [("user_id", "_user")]).drop("_user")
    touched = events.touches(marked, "segment", params)
    ctr = reception.click_through(touched).select("item_id", "ctr")
    touched = _by_segment(touched.filter(touched.permitted)).join(ctr, "item_id")
    touched = touched.mutate(expected=touched.shown * touched.ctr)
    keys = items.attribute_keys(tables.items)
    total = affinity.totals(touched, "segment")
    by_attr = affinity.by_attribute(touched, keys, "segment")
    share = affinity.shares(by_attr.filter(by_attr.segment == EVERYONE))
    by_attr = affinity.with_expectation(by_attr, total, share, "segment")
    preferences = affinity.preferences(by_attr, "segment", params.affinity_top_k)
    favourites = _favourites(touched.filter(touched.engagements > 0), tables.items)
    return _features(affinity.beside(counts, "segment", total, preferences, favourites))


def _by_segment(touched: ir.Table) -> ir.Table:
    """Sum touches per segment and item, and once more over all users."""
    import ibis  # noqa: PLC0415

    sums = dict.fromkeys(("sums",), ("clicks", "engagements", "shown", "slots"))["sums"]
    once = touched.group_by("segment", "item_id").agg(**{name: touched[name].sum() for name in sums})
    everyone = once.group_by("item_id").agg(**{name: once[name].sum() for name in sums})
    once = once.filter(once.segment.notnull())
    return ibis.union(once, everyone.mutate(segment=ibis.literal(EVERYONE)).select(*once.columns))


def _favourites(engaged: ir.Table, items: ir.Table) -> ir.Table:
    """Return `segment`, `top_items`, `price_median`."""
    import ibis  # noqa: PLC0415

    from feature_repo.expressions.affinity import strength  # noqa: PLC0415

    prices = items.select(_item="item_id", price="price")
    engaged = engaged.left_join(prices, engaged.item_id == prices._item)
    order = [strength(engaged.clicks).desc(), engaged.item_id.asc()]
    ranked = engaged.mutate(_rank=ibis.row_number().over(group_by="segment", order_by=order))
    item = ibis.struct({"rank": ranked._rank, "item_id": ranked.item_id})
    lists = ranked.group_by("segment").agg(
        top=item.collect(where=ranked._rank < TOP_ITEMS), price_median=ranked.price.quantile(0.5)
    )
    return lists.select("segment", "price_median", top_items=lists.top.sort().map(lambda i: i["item_id"]))


def _features(rows: ir.Table) -> ir.Table:
    from feature_repo.expressions.affinity import FLOATS, STRINGS, or_empty  # noqa: PLC0415

    return rows.select(
        "segment",
        "user_count",
        attr_keys=or_empty(rows.attr_keys, STRINGS),
        attr_clicks=or_empty(rows.attr_clicks, FLOATS),
        attr_expected=or_empty(rows.attr_expected, FLOATS),
        click_rate=rows.click_rate.fill_null(1.0),
        categories=or_empty(rows.categories, STRINGS),
        category_shares=or_empty(rows.category_shares, FLOATS),
        top_items=or_empty(rows.top_items, STRINGS),
        price_median=rows.price_median,
    )


GROUP = FeatureGroup(
    name="segment_profile",
    entity=SEGMENT,
    meaning="Preferences of a segment's users.",
    features=(
        Feature("user_count", DType.INT64, "Users in the segment.", "users", (NON_NEGATIVE,)),
        Feature("attr_keys", DType.STRINGS, "Attribute values seen, as `type:value`."),
        Feature("attr_clicks", DType.FLOAT64S, "Decayed engagement with each value.", "weight"),
        Feature(
            "attr_expected",
            DType.FLOAT64S,
            "Engagement an average user would have had with the items shown.",
            "weight",
        ),
        Feature(
            "click_rate", DType.FLOAT64, "Clicks over expected clicks, shrunk to 1.", "ratio", (NON_NEGATIVE,)
        ),
        Feature("categories", DType.STRINGS, "Categories by decayed affinity, strongest first."),
        Feature(
            "category_shares", DType.FLOAT64S, "Share of the decayed engagement of each category.", "share"
        ),
        Feature("top_items", DType.STRINGS, "Items engaged with most, strongest first."),
        Feature("price_median", DType.FLOAT64, "Median of prices engaged with.", "price"),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
    batch=expression,
    depends_on=("user_profile",),
    ranked_as="segment",
    expectations=(
        Expectation("row_count_between", minimum=1),
        Expectation("same_length", columns=("attr_keys", "attr_clicks", "attr_expected")),
        Expectation("same_length", columns=("categories", "category_shares")),
    ),
)
