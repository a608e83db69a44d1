"""Preferences over attribute values, for users and for segments."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from feature_repo.catalogue import CATEGORY
from feature_repo.expressions.items import attribute_type
from feature_repo.group import CLICK_RATE_PRIOR, SMALLEST_SCORE

STRINGS = "array<string>"
FLOATS = "array<float64>"


def strength(score: ir.FloatingColumn) -> ir.FloatingColumn:
    """Round scores for comparison, so that those within a relative 1e-9 are equal.

    The order in which an engine sums then does not decide ties, however far scores have decayed.
    """
    return ibis.greatest(score, SMALLEST_SCORE).ln().round(9)


def totals(touched: ir.Table, key: str) -> ir.Table:
    """Return `key`, `all_slots`, `click_rate`; `touched` has `clicks`, `expected`, `slots` per key, item."""
    summed = touched.group_by(key).agg(
        all_slots=touched["slots"].sum(), clicks=touched.clicks.sum(), expected=touched.expected.sum()
    )
    rate = (summed.clicks + CLICK_RATE_PRIOR) / (summed.expected + CLICK_RATE_PRIOR)
    return summed.select(key, "all_slots", click_rate=(summed.all_slots > 0).ifelse(rate, 1.0))


def by_attribute(touched: ir.Table, keys: ir.Table, key: str) -> ir.Table:
    """Return `key`, `attr_key`, `clicks`, `expected`, `all_slots`, summed over items with the value."""
    met = touched.join(keys, "item_id")
    return met.group_by(key, "attr_key").agg(clicks=met.clicks.sum(), expected=met.expected.sum())


def shares(everybody: ir.Table) -> ir.Table:
    """Return `attr_key`, `share` of clicks within its attribute type, from rows with `attr_key`, `clicks`."""
    summed = everybody.group_by("attr_key").agg(clicks=everybody.clicks.sum())
    summed = summed.mutate(_type=attribute_type(summed.attr_key))
    whole = summed.clicks.sum().over(group_by="_type")
    return summed.select("attr_key", share=(summed.clicks / whole.nullif(0.0)).fill_null(0.0))


def with_expectation(by_attr: ir.Table, total: ir.Table, share: ir.Table, key: str) -> ir.Table:
    """Replace `expected` by the overall share for keys that were shown nothing."""
    rows = by_attr.mutate(_type=attribute_type(by_attr.attr_key))
    rows = rows.join(total.select(key, "all_slots"), key)
    columns = (key, "attr_key", "_type", "clicks", "expected")
    alone = rows.filter(rows.all_slots == 0).drop("expected")
    of_type = alone.group_by(key, "_type").agg(of_type=alone.clicks.sum())
    alone = alone.join(of_type, [key, "_type"]).join(share, "attr_key")
    alone = alone.mutate(expected=alone.share * alone.of_type)
    return ibis.union(rows.filter(rows.all_slots > 0).select(*columns), alone.select(*columns))


def cut(rows: ir.Table, key: str, top_k: int) -> ir.Table:
    """Keep, per attribute type, the `top_k` values with the largest clicks + expected.

    Only longer lists are sorted, and most users have none.
    """
    counts = rows.group_by(key, "_type").agg(values=rows.count())
    long = counts.filter(counts["values"] > top_k).select(_key=key, _long="_type")
    same = [rows[key] == long._key, rows._type == long._long]
    order = [strength(rows.clicks + rows.expected).desc(), rows.attr_key.asc()]
    ranked = rows.semi_join(long, same)
    ranked = ranked.mutate(_rank=ibis.row_number().over(group_by=[key, "_type"], order_by=order))
    ranked = ranked.filter(ranked._rank < top_k).drop("_rank")
    return ibis.union(rows.anti_join(long, same), ranked)


def preferences(rows: ir.Table, key: str, top_k: int) -> ir.Table:
    """Return `key` and lists `attr_keys`, `attr_clicks`, `attr_expected`, `categories`, `category_shares`."""
    kept = cut(rows, key, top_k)
    value = ibis.struct({"attr_key": kept.attr_key, "clicks": kept.clicks, "expected": kept.expected})
    values = kept.group_by(key).agg(values=value.collect())
    liked = rows.filter(rows._type == CATEGORY)
    category = ibis.struct(
        {
            "order": -strength(liked.clicks),
            "name": liked.attr_key.substr(len(CATEGORY) + 1),
            "clicks": liked.clicks,
        }
    )
    categories = liked.group_by(key).agg(
        liked=category.collect(where=liked.clicks > 0), total=liked.clicks.sum()
    )
    lists = values.left_join(categories.rename(_key=key), values[key] == categories[key]).drop("_key")
    lists = lists.mutate(values=lists["values"].sort(), liked=lists.liked.sort()[:top_k])
    return lists.select(
        key,
        attr_keys=lists["values"].map(lambda v: v["attr_key"]),
        attr_clicks=lists["values"].map(lambda v: v["clicks"]),
        attr_expected=lists["values"].map(lambda v: v["expected"]),
        categories=lists.liked.map(lambda c: c["name"]),
        category_shares=lists.liked.map(lambda c: c["clicks"] / lists.total),
    )


def beside(rows: ir.Table, key: str, *parts: ir.Table) -> ir.Table:
    """Add the columns of the parts, each of which has rows for some of the keys.

    Uses one chain of joins, because Ibis takes time for every step between two joins.
    """
    for number, part in enumerate(parts):
        other = part.rename({f"_{key}_{number}": key})
        rows = rows.left_join(other, rows[key] == other[f"_{key}_{number}"])
    return rows


def or_empty(column: ir.ArrayColumn, dtype: str) -> ir.ArrayColumn:
    """Return the list, or an empty one for null."""
    return ibis.coalesce(column, ibis.literal([], type=dtype))
