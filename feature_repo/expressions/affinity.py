"""Preferences over attribute values, of users and of segments alike."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from feature_repo.catalogue import CATEGORY
from feature_repo.expressions.items import attribute_type
from feature_repo.group import CLICK_RATE_PRIOR, SMALLEST_SCORE

STRINGS = "array<string>"
FLOATS = "array<float64>"


def strength(score: ir.FloatingColumn) -> ir.FloatingColumn:
    """What scores are compared by: equal where they differ by less than a billionth part.

    So the order in which an engine sums does not decide between equals, however far they have decayed.
    """
    return ibis.greatest(score, SMALLEST_SCORE).ln().round(9)


def totals(touched: ir.Table, key: str) -> ir.Table:
    """`key`, `all_slots`, `click_rate`. `touched`: per key and item, with `clicks`, `expected`, `slots`."""
    summed = touched.group_by(key).agg(
        all_slots=touched["slots"].sum(), clicks=touched.clicks.sum(), expected=touched.expected.sum()
    )
    rate = (summed.clicks + CLICK_RATE_PRIOR) / (summed.expected + CLICK_RATE_PRIOR)
    return summed.select(key, "all_slots", click_rate=(summed.all_slots > 0).ifelse(rate, 1.0))


def by_attribute(touched: ir.Table, keys: ir.Table, key: str) -> ir.Table:
    """`key`, `attr_key`, `clicks`, `expected`, `all_slots` summed over the items with the attribute value."""
    met = touched.join(keys, "item_id")
    return met.group_by(key, "attr_key").agg(clicks=met.clicks.sum(), expected=met.expected.sum())


def shares(everybody: ir.Table) -> ir.Table:
    """`attr_key`, `share` of the clicks within its attribute type; from rows with `attr_key`, `clicks`."""
    summed = everybody.group_by("attr_key").agg(clicks=everybody.clicks.sum())
    summed = summed.mutate(_type=attribute_type(summed.attr_key))
    whole = summed.clicks.sum().over(group_by="_type")
    return summed.select("attr_key", share=(summed.clicks / whole.nullif(0.0)).fill_null(0.0))


def with_expectation(by_attr: ir.Table, total: ir.Table, share: ir.Table, key: str) -> ir.Table:
    """Put the share of everybody in place of `expected` for keys that were shown nothing."""
    rows = by_attr.join(total.select(key, "all_slots"), key)
    rows = rows.left_join(share.select(_shared="attr_key", _share="share"), rows.attr_key == share.attr_key)
    rows = rows.mutate(_type=attribute_type(rows.attr_key))
    of_type = rows.clicks.sum().over(group_by=[key, "_type"])
    expected = (rows.all_slots > 0).ifelse(rows.expected, rows._share.fill_null(0.0) * of_type)
    return rows.select(key, "attr_key", "_type", "clicks", expected=expected)


def preferences(rows: ir.Table, key: str, top_k: int) -> ir.Table:
    """`key` and the lists `attr_keys`, `attr_clicks`, `attr_expected`, `categories`, `category_shares`."""
    order = [strength(rows.clicks + rows.expected).desc(), rows.attr_key.asc()]
    rows = rows.mutate(_rank=ibis.row_number().over(group_by=[key, "_type"], order_by=order))
    is_category = rows._type == CATEGORY
    value = ibis.struct({"attr_key": rows.attr_key, "clicks": rows.clicks, "expected": rows.expected})
    category = ibis.struct(
        {
            "order": -strength(rows.clicks),
            "name": rows.attr_key.substr(len(CATEGORY) + 1),
            "clicks": rows.clicks,
        }
    )
    lists = rows.group_by(key).agg(
        values=value.collect(where=rows._rank < top_k),
        liked=category.collect(where=is_category & (rows.clicks > 0)),
        total=rows.clicks.sum(where=is_category),
    )
    lists = lists.mutate(values=lists["values"].sort(), liked=lists.liked.sort()[:top_k])
    return lists.select(
        key,
        attr_keys=lists["values"].map(lambda v: v["attr_key"]),
        attr_clicks=lists["values"].map(lambda v: v["clicks"]),
        attr_expected=lists["values"].map(lambda v: v["expected"]),
        categories=lists.liked.map(lambda c: c["name"]),
        category_shares=lists.liked.map(lambda c: c["clicks"] / lists.total),
    )


def or_empty(column: ir.ArrayColumn, dtype: str) -> ir.ArrayColumn:
    """The list, or an empty one."""
    return ibis.coalesce(column, ibis.literal([], type=dtype))
