"""What a user has come to prefer over months."""

from __future__ import annotations

from datetime import timedelta

from feature_repo.group import (
    NON_NEGATIVE,
    NOT_NULL,
    USER,
    DType,
    Expectation,
    Feature,
    FeatureGroup,
)

WINDOWS_DAYS = (1, 7, 30, 90)
COUNTED = ("impression", "view", "click", "like", "add_to_cart", "purchase")

GROUP = FeatureGroup(
    name="user_profile",
    entity=USER,
    meaning="Long-term preferences and activity of a user.",
    features=(
        Feature("segment", DType.STRING, "Segment: declared, else from behaviour.", expectations=(NOT_NULL,)),
        Feature("attr_keys", DType.STRINGS, "Attribute values met, as `type:value` (`category:shoes`)."),
        Feature("attr_clicks", DType.FLOAT64S, "Decayed engagement with each value.", "weight"),
        Feature(
            "attr_expected",
            DType.FLOAT64S,
            "Engagement anyone would have shown with what was shown.",
            "weight",
        ),
        Feature(
            "click_rate", DType.FLOAT64, "Clicks over expected clicks, shrunk to 1.", "ratio", (NON_NEGATIVE,)
        ),
        Feature("categories", DType.STRINGS, "Categories by decayed affinity, strongest first."),
        Feature(
            "category_shares", DType.FLOAT64S, "Share of the decayed engagement of each category.", "share"
        ),
        Feature("numeric_keys", DType.STRINGS, "Numeric attributes met (`price`, `created_year`, …)."),
        Feature("numeric_medians", DType.FLOAT64S, "Median of what the user engaged with."),
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
        Feature("recency_days", DType.FLOAT64, "Time since the last event.", "days", (NON_NEGATIVE,)),
        Feature("last_event_time", DType.TIMESTAMP, "When the user was last seen."),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
    expectations=(
        Expectation("row_count_between", minimum=1),
        Expectation("same_length", columns=("attr_keys", "attr_clicks", "attr_expected")),
        Expectation("same_length", columns=("categories", "category_shares")),
        Expectation("same_length", columns=("numeric_keys", "numeric_medians")),
    ),
)
