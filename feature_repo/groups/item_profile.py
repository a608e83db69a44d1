"""Attributes and reception of an item."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from feature_repo.group import (
    CTR_PRIOR,
    ITEM,
    NON_NEGATIVE,
    NOT_NULL,
    BatchParams,
    DType,
    Expectation,
    Feature,
    FeatureGroup,
    LakeTables,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

VECTOR_DIMENSIONS = 32


def expression(tables: LakeTables, params: BatchParams) -> ir.Table:
    """Compute one row per item in the catalogue or in events."""
    import ibis  # noqa: PLC0415 - half a second, and everything imports the declarations

    from feature_repo.expressions import events, items, reception  # noqa: PLC0415
    from feature_repo.expressions.affinity import beside  # noqa: PLC0415

    weighed = events.weighed(tables.events, params)
    shown = reception.shown_at(tables.events)
    engaged = _engaged(weighed, params)
    impressions = shown.group_by("item_id").agg(
        slots=shown["slots"].sum(), first_shown=shown.first_seen.min()
    )
    received = impressions.outer_join(engaged, "item_id")
    received = received.mutate(
        item_id=ibis.coalesce(received.item_id, received.item_id_right),
        slots=received["slots"].fill_null(0),
        engagements=received.engagements.fill_null(0),
    ).drop("item_id_right")
    rates = reception.click_through(received)
    mean = reception.mean_click_through(rates)
    expected = reception.expected_clicks(shown, reception.clicked_at(weighed))
    keys = items.attribute_keys(tables.items)
    rows = tables.items.select("item_id", "title", "categories", "price", "created_at")
    rows = rows.outer_join(received.drop("slots", "engagements"), "item_id")
    rows = rows.mutate(item_id=ibis.coalesce(rows.item_id, rows.item_id_right)).drop("item_id_right")
    of_catalogue = (_key_lists(keys), _numeric_lists(items.numerics(tables.items)))
    parts = (rates, expected, *of_catalogue, items.vectors(keys, VECTOR_DIMENSIONS))
    return _features(beside(rows, "item_id", *parts).cross_join(mean), params)


def _engaged(weighed: ir.Table, params: BatchParams) -> ir.Table:
    from feature_repo.expressions import events  # noqa: PLC0415

    engaged = events.engagements(weighed)
    popularity = {
        f"popularity_{name}": (engaged.weight * events.decay(engaged.event_time, params.as_of, span)).sum()
        for name, span in zip(("short", "mid", "long"), params.popularity_half_lives, strict=True)
    }
    return engaged.group_by("item_id").agg(
        engagements=engaged.count(),
        purchases=(engaged.event_type == "purchase").sum(),
        first_engaged=engaged.event_time.min(),
        **popularity,
    )


def _key_lists(keys: ir.Table) -> ir.Table:
    lists = keys.group_by("item_id").agg(attr_keys=keys.attr_key.collect())
    return lists.mutate(attr_keys=lists.attr_keys.sort())


def _numeric_lists(numerics: ir.Table) -> ir.Table:
    import ibis  # noqa: PLC0415

    pair = ibis.struct({"name": numerics["name"], "value": numerics["value"]})
    lists = numerics.group_by("item_id").agg(pairs=pair.collect())
    lists = lists.mutate(pairs=lists.pairs.sort())
    return lists.select(
        "item_id",
        numeric_keys=lists.pairs.map(lambda p: p["name"]),
        numeric_values=lists.pairs.map(lambda p: p["value"]),
    )


def _features(rows: ir.Table, params: BatchParams) -> ir.Table:
    import ibis  # noqa: PLC0415

    from feature_repo.expressions.affinity import FLOATS, STRINGS, or_empty  # noqa: PLC0415
    from feature_repo.expressions.events import age_us  # noqa: PLC0415
    from feature_repo.expressions.users import DAY_US  # noqa: PLC0415

    born = ibis.coalesce(rows.created_at, ibis.least(rows.first_shown, rows.first_engaged))
    age_days = age_us(born, params.as_of) / DAY_US
    clicks = rows.clicks.fill_null(0.0)
    return rows.select(
        "item_id",
        title=rows.title.fill_null(""),
        categories=or_empty(rows.categories, STRINGS),
        price=rows.price,
        created_at=rows.created_at,
        age_days=age_days.notnull().ifelse(ibis.greatest(age_days, 0.0), ibis.null("float64")),
        attr_keys=or_empty(rows.attr_keys, STRINGS),
        numeric_keys=or_empty(rows.numeric_keys, STRINGS),
        numeric_values=or_empty(rows.numeric_values, FLOATS),
        impressions=rows.impressions.fill_null(0.0),
        clicks=clicks,
        purchases=rows.purchases.fill_null(0).cast("float64"),
        ctr=ibis.coalesce(rows.ctr, rows["mean"]),
        ctr_debiased=(clicks + CTR_PRIOR) / (rows.expected.fill_null(0.0) + CTR_PRIOR),
        popularity_short=rows.popularity_short.fill_null(0.0),
        popularity_mid=rows.popularity_mid.fill_null(0.0),
        popularity_long=rows.popularity_long.fill_null(0.0),
        vector=ibis.coalesce(rows.vector, ibis.literal([0.0] * VECTOR_DIMENSIONS, type="array<float32>")),
    )


GROUP = FeatureGroup(
    name="item_profile",
    entity=ITEM,
    meaning="Attributes, reception and vector of an item.",
    features=(
        Feature("title", DType.STRING, "Name shown to people."),
        Feature("categories", DType.STRINGS, "Categories."),
        Feature("price", DType.FLOAT64, "Price.", "price", (NON_NEGATIVE,)),
        Feature("created_at", DType.TIMESTAMP, "When the item was created."),
        Feature("age_days", DType.FLOAT64, "Age: since `created_at`, else since first seen.", "days"),
        Feature("attr_keys", DType.STRINGS, "Every attribute value as `type:value`, categories included."),
        Feature("numeric_keys", DType.STRINGS, "Numeric attributes (`price`, `created_year`, …)."),
        Feature("numeric_values", DType.FLOAT64S, "Their values."),
        Feature("impressions", DType.FLOAT64, "Times shown.", "events", (NON_NEGATIVE,)),
        Feature("clicks", DType.FLOAT64, "Engagements.", "events", (NON_NEGATIVE,)),
        Feature("purchases", DType.FLOAT64, "Purchases among them.", "events", (NON_NEGATIVE,)),
        Feature("ctr", DType.FLOAT64, "Smoothed click-through rate.", "share", (NOT_NULL, NON_NEGATIVE)),
        Feature("ctr_debiased", DType.FLOAT64, "Clicks over those expected at the positions shown.", "ratio"),
        Feature("popularity_short", DType.FLOAT64, "Decayed engagement, short half-life.", "weight"),
        Feature("popularity_mid", DType.FLOAT64, "Decayed engagement, middle half-life.", "weight"),
        Feature("popularity_long", DType.FLOAT64, "Decayed engagement, long half-life.", "weight"),
        Feature(
            "vector", DType.FLOAT32S, f"Attribute vector of {VECTOR_DIMENSIONS} dimensions, unit length."
        ),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
    batch=expression,
    expectations=(
        Expectation("row_count_between", minimum=1),
        Expectation("same_length", columns=("numeric_keys", "numeric_values")),
    ),
)
