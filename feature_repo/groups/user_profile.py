"""Long-term preferences of a user, over months."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from feature_repo.group import (
    NON_NEGATIVE,
    NOT_NULL,
    USER,
    BatchParams,
    DType,
    Expectation,
    Feature,
    FeatureGroup,
    LakeTables,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

WINDOWS_DAYS = (1, 7, 30, 90)
COUNTED = ("impression", "view", "click", "like", "add_to_cart", "purchase")
PURCHASED = 50
"""Number of purchased items kept."""


def expression(tables: LakeTables, params: BatchParams) -> ir.Table:
    """Compute one row per user who may be profiled: seen in events, or declared."""
    import ibis  # noqa: PLC0415 - half a second, and everything imports the declarations

    from feature_repo.expressions import affinity, events, items, reception, users  # noqa: PLC0415

    part = tables.part
    marked = events.marked(tables, params)
    each = tables.keep("each_touch", events.each_touch(marked, "user_id", params), "user_id")
    touched = events.touched(part.rows(each, "user_id"), "user_id")
    # Engagement of all users with an item.
    received = tables.keep("received", events.touched(touched if part.whole else each))
    ctr = reception.click_through(received).select("item_id", "ctr")
    keys = items.attribute_keys(tables.items)
    permitted = received.filter(received.permitted)
    everybody = permitted.select("item_id", "clicks").join(keys, "item_id")
    share = affinity.shares(everybody)
    own = touched.filter(touched.user_id.notnull()).join(ctr, "item_id")
    own = own.mutate(expected=own.shown * own.ctr)
    total = affinity.totals(own, "user_id")
    by_attr = affinity.by_attribute(own, keys, "user_id")
    by_attr = affinity.with_expectation(by_attr, total, share, "user_id")
    preferences = affinity.preferences(by_attr, "user_id", params.affinity_top_k)
    engaged = own.filter(own.engagements > 0).select("user_id", "item_id")
    tastes = users.numeric_tastes(engaged, items.numerics(tables.items))
    active = part.rows(
        tables.keep("active", users.activity(marked, params, COUNTED, WINDOWS_DAYS)), "user_id"
    )
    bought = part.rows(tables.keep("bought", users.purchases(marked, params, PURCHASED)), "user_id")
    declared = users.declared(part.rows(tables.users, "user_id"), params)
    rows = active.outer_join(declared, "user_id")
    rows = rows.filter(rows.last_event_time.notnull() | rows.listed)
    rows = rows.mutate(user_id=ibis.coalesce(rows.user_id, rows.user_id_right)).drop("user_id_right")
    return _features(affinity.beside(rows, "user_id", total, preferences, tastes, bought), params)


def _features(rows: ir.Table, params: BatchParams) -> ir.Table:
    import ibis  # noqa: PLC0415

    from feature_repo.expressions.affinity import FLOATS, STRINGS, or_empty  # noqa: PLC0415
    from feature_repo.expressions.events import age_us  # noqa: PLC0415
    from feature_repo.expressions.users import DAY_US  # noqa: PLC0415

    liked = or_empty(rows.categories, STRINGS)
    behaviour = (liked.length() > 0).ifelse("likes:" + liked[0], "all")
    counts = [f"{kind}_count_{days}d" for kind in COUNTED for days in WINDOWS_DAYS]
    return rows.select(
        "user_id",
        segment=ibis.coalesce(rows.declared, behaviour),
        attr_keys=or_empty(rows.attr_keys, STRINGS),
        attr_clicks=or_empty(rows.attr_clicks, FLOATS),
        attr_expected=or_empty(rows.attr_expected, FLOATS),
        click_rate=rows.click_rate.fill_null(1.0),
        categories=liked,
        category_shares=or_empty(rows.category_shares, FLOATS),
        numeric_keys=or_empty(rows.numeric_keys, STRINGS),
        numeric_medians=or_empty(rows.numeric_medians, FLOATS),
        price_low=rows.price_low,
        price_median=rows.price_median,
        price_high=rows.price_high,
        **{name: rows[name].fill_null(0) for name in counts},
        purchased_items=or_empty(rows.purchased_items, STRINGS),
        recency_days=age_us(rows.last_event_time, params.as_of) / DAY_US,
        last_event_time=rows.last_event_time,
    )


GROUP = FeatureGroup(
    name="user_profile",
    entity=USER,
    meaning="Long-term preferences and activity of a user.",
    features=(
        Feature("segment", DType.STRING, "Segment: declared, else from behaviour.", expectations=(NOT_NULL,)),
        Feature("attr_keys", DType.STRINGS, "Attribute values seen, as `type:value` (`category:shoes`)."),
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
        Feature("numeric_keys", DType.STRINGS, "Numeric attributes seen (`price`, `created_year`, …)."),
        Feature("numeric_medians", DType.FLOAT64S, "Median over the items engaged with."),
        Feature("price_low", DType.FLOAT64, "Lower quartile of prices engaged with.", "price"),
        Feature("price_median", DType.FLOAT64, "Median of prices engaged with.", "price"),
        Feature("price_high", DType.FLOAT64, "Upper quartile of prices engaged with.", "price"),
        *(
            Feature(
                f"{kind}_count_{days}d",
                DType.INT64,
                f"`{kind}` events in {days} d.",
                "events",
                (NON_NEGATIVE,),
            )
            for kind in COUNTED
            for days in WINDOWS_DAYS
        ),
        Feature("purchased_items", DType.STRINGS, f"Last {PURCHASED} distinct items bought, newest first."),
        Feature("recency_days", DType.FLOAT64, "Time since the last event.", "days", (NON_NEGATIVE,)),
        Feature("last_event_time", DType.TIMESTAMP, "When the user was last seen."),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
    batch=expression,
    divisible=True,
    ranked_as="user",
    expectations=(
        # A shop of anonymous visitors has no users; the gate still blocks a build that loses half its rows.
        Expectation("row_count_between", minimum=1, severity="warn"),
        Expectation("same_length", columns=("attr_keys", "attr_clicks", "attr_expected")),
        Expectation("same_length", columns=("categories", "category_shares")),
        Expectation("same_length", columns=("numeric_keys", "numeric_medians")),
    ),
)
