"""What the users of a segment prefer: the prior for cold users."""

from __future__ import annotations

from datetime import timedelta

from feature_repo.group import NON_NEGATIVE, SEGMENT, DType, Expectation, Feature, FeatureGroup

EVERYONE = "all"
"""The segment that holds every user; the prior of last resort."""

TOP_ITEMS = 100
"""Items kept in `top_items`."""

GROUP = FeatureGroup(
    name="segment_profile",
    entity=SEGMENT,
    meaning="Preferences of a segment's users.",
    features=(
        Feature("user_count", DType.INT64, "Users in the segment.", "users", (NON_NEGATIVE,)),
        Feature("attr_keys", DType.STRINGS, "Attribute values met, as `type:value`."),
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
        Feature("top_items", DType.STRINGS, "Items engaged with most, strongest first."),
        Feature("price_median", DType.FLOAT64, "Median of prices engaged with.", "price"),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
    depends_on=("user_profile",),
    expectations=(
        Expectation("row_count_between", minimum=1),
        Expectation("same_length", columns=("attr_keys", "attr_clicks", "attr_expected")),
        Expectation("same_length", columns=("categories", "category_shares")),
    ),
)
