"""A small catalogue and profiles for the ranking tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from feature_repo.groups.item_neighbours import GROUP as NEIGHBOURS
from feature_repo.groups.item_profile import GROUP as ITEMS
from serving.items.item_snapshot import ItemSnapshot, snapshot_of

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
NOW_MS = int(AS_OF.timestamp() * 1000)


def item(item_id: str, keys: Sequence[str] = (), **values: Any) -> dict[str, Any]:
    """Create a row of `item_profile`, with ordinary values unless given."""
    return {
        "item_id": item_id,
        "title": item_id,
        "categories": [k.partition(":")[2] for k in keys if k.startswith("category:")],
        "attr_keys": list(keys),
        "numeric_keys": [],
        "numeric_values": [],
        "age_days": 1.0,
        "impressions": 10.0,
        "clicks": 1.0,
        "purchases": 0.0,
        "ctr": 0.1,
        "ctr_debiased": 1.0,
        "popularity_short": 0.0,
        "popularity_mid": 0.0,
        "popularity_long": 0.0,
        "vector": [],
        "event_timestamp": AS_OF,
        "created_timestamp": AS_OF,
        **values,
    }


def items_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Create the table of `item_profile` rows."""
    return pa.Table.from_pylist(list(rows), schema=ITEMS.arrow_schema)


def neighbours_table(
    pairs: Mapping[str, Mapping[str, float]],
    sessions: Mapping[str, int],
    steps: Mapping[str, Mapping[str, float]] | None = None,
) -> pa.Table:
    """Create the table of `item_neighbours` rows; `steps` counts what was touched next, by item."""
    then = steps or {}
    rows = [
        {
            "item_id": item_id,
            "neighbour_ids": list(found),
            "neighbour_counts": list(found.values()),
            "session_count": sessions.get(item_id, 0),
            "next_ids": list(then.get(item_id, {})),
            "next_counts": list(then.get(item_id, {}).values()),
            "next_total": int(sum(then.get(item_id, {}).values())),
            "event_timestamp": AS_OF,
            "created_timestamp": AS_OF,
        }
        for item_id, found in pairs.items()
    ]
    return pa.Table.from_pylist(rows, schema=NEIGHBOURS.arrow_schema)


def snapshot(rows: Sequence[Mapping[str, Any]], neighbours: pa.Table | None = None) -> ItemSnapshot:
    """Create a snapshot of rows."""
    return snapshot_of(items_table(rows), neighbours, "test", AS_OF)


def profile(
    weights: Mapping[str, tuple[float, float]], rate: float = 1.0, medians: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Create a row of `user_profile` or `segment_profile`: clicks and expected clicks by attribute value."""
    return {
        "attr_keys": list(weights),
        "attr_clicks": [clicks for clicks, _ in weights.values()],
        "attr_expected": [expected for _, expected in weights.values()],
        "click_rate": rate,
        "numeric_keys": list(medians or {}),
        "numeric_medians": list((medians or {}).values()),
    }


def session(touched: Mapping[str, int], attrs: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Create a row of `session_profile`: items with the seconds since they were touched, newest first."""
    return {
        "item_ids": list(touched),
        "item_times_ms": [NOW_MS - 1000 * age for age in touched.values()],
        "attr_keys": list(attrs or {}),
        "attr_weights": list((attrs or {}).values()),
    }
