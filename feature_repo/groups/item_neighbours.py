"""Which items are touched together."""

from __future__ import annotations

from datetime import timedelta

from feature_repo.group import ITEM, DType, Expectation, Feature, FeatureGroup

GROUP = FeatureGroup(
    name="item_neighbours",
    entity=ITEM,
    meaning="Items most often touched in the same sessions.",
    features=(
        Feature("neighbour_ids", DType.STRINGS, "Neighbours, strongest first."),
        Feature("neighbour_counts", DType.FLOAT64S, "Sessions that touched both.", "sessions"),
        Feature("session_count", DType.INT64, "Sessions that touched the item.", "sessions"),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
    expectations=(Expectation("same_length", columns=("neighbour_ids", "neighbour_counts")),),
)
