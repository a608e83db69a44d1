"""What a session is about, seconds old."""

from __future__ import annotations

from datetime import timedelta

from feature_repo.group import NON_NEGATIVE, NOT_NULL, SESSION, DType, Expectation, Feature, FeatureGroup

LAST_ITEMS = 20
LAST_QUERIES = 5
COUNTED = ("impression", "view", "click", "like", "add_to_cart", "purchase", "search")

GROUP = FeatureGroup(
    name="session_profile",
    entity=SESSION,
    meaning="The running session: what was touched, asked and put in the cart.",
    features=(
        Feature("user_id", DType.STRING, "The user, once known."),
        Feature("item_ids", DType.STRINGS, f"Last {LAST_ITEMS} distinct items touched, newest first."),
        Feature("item_times_ms", DType.INT64S, "When each was last touched.", "epoch ms"),
        Feature("item_weights", DType.FLOAT64S, "Engagement with each so far.", "weight"),
        Feature(
            "attr_keys", DType.STRINGS, "Attribute values of touched items, as `type:value`, strongest first."
        ),
        Feature("attr_weights", DType.FLOAT64S, "Decayed engagement with each value.", "weight"),
        Feature("categories", DType.STRINGS, "Categories by decayed affinity, strongest first."),
        Feature(
            "category_shares", DType.FLOAT64S, "Share of the decayed engagement of each category.", "share"
        ),
        Feature("event_count", DType.INT64, "Events.", "events", (NON_NEGATIVE,)),
        *(
            Feature(f"{kind}_count", DType.INT64, f"`{kind}` events.", "events", (NON_NEGATIVE,))
            for kind in COUNTED
        ),
        Feature("queries", DType.STRINGS, f"Last {LAST_QUERIES} queries, newest first."),
        Feature("cart_item_ids", DType.STRINGS, "Items put in the cart and not yet bought, newest first."),
        Feature("dwell_s", DType.FLOAT64, "From the first event to the last.", "s", (NON_NEGATIVE,)),
        Feature("mean_price", DType.FLOAT64, "Mean price of the items touched.", "price"),
        Feature("started_at", DType.TIMESTAMP, "First event.", expectations=(NOT_NULL,)),
        Feature("last_event_time", DType.TIMESTAMP, "Last event.", expectations=(NOT_NULL,)),
    ),
    freshness=timedelta(seconds=30),
    ttl=timedelta(days=1),
    expectations=(
        Expectation("same_length", columns=("item_ids", "item_times_ms", "item_weights")),
        Expectation("same_length", columns=("attr_keys", "attr_weights")),
        Expectation("same_length", columns=("categories", "category_shares")),
    ),
)
