"""What an item is and how it is received."""

from __future__ import annotations

from datetime import timedelta

from feature_repo.group import ITEM, NON_NEGATIVE, NOT_NULL, DType, Expectation, Feature, FeatureGroup

VECTOR_DIMENSIONS = 32

GROUP = FeatureGroup(
    name="item_profile",
    entity=ITEM,
    meaning="Attributes, reception and vector of an item.",
    features=(
        Feature("title", DType.STRING, "Name shown to people."),
        Feature("categories", DType.STRINGS, "Categories."),
        Feature("price", DType.FLOAT64, "Price.", "price", (NON_NEGATIVE,)),
        Feature("created_at", DType.TIMESTAMP, "When the item came into being."),
        Feature("age_days", DType.FLOAT64, "Age: since `created_at`, else since first seen.", "days"),
        Feature("attr_keys", DType.STRINGS, "Every attribute value as `type:value`, categories included."),
        Feature("numeric_keys", DType.STRINGS, "Numeric attributes (`price`, `created_year`, …)."),
        Feature("numeric_values", DType.FLOAT64S, "Their values."),
        Feature("impressions", DType.FLOAT64, "Times shown.", "events", (NON_NEGATIVE,)),
        Feature("clicks", DType.FLOAT64, "Engagements.", "events", (NON_NEGATIVE,)),
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
    expectations=(
        Expectation("row_count_between", minimum=1),
        Expectation("same_length", columns=("numeric_keys", "numeric_values")),
    ),
)
