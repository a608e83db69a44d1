"""A made-up feature group for the quality tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feature_repo.group import USER, DType, Feature, FeatureGroup


def plain(**types: DType) -> tuple[Feature, ...]:
    """Create features with only a name and a type."""
    return tuple(Feature(name, dtype, "") for name, dtype in types.items())


def taste(*features: Feature, **more: Any) -> FeatureGroup:
    """Create a group of user features, fresh for an hour and kept for a day."""
    given: dict[str, Any] = {
        "name": "taste",
        "entity": USER,
        "meaning": "",
        "features": features,
        "freshness": timedelta(hours=1),
        "ttl": timedelta(days=1),
        **more,
    }
    return FeatureGroup(**given)
