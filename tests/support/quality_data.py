"""A made-up group of features for the tests of quality."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feature_repo.group import USER, DType, Feature, FeatureGroup


def plain(**types: DType) -> tuple[Feature, ...]:
    """Features of nothing but a name and a type."""
    return tuple(Feature(name, dtype, "") for name, dtype in types.items())


def taste(*features: Feature, **more: Any) -> FeatureGroup:
    """A group of users' features, an hour fresh and kept for a day."""
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
