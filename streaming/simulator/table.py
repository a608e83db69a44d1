"""A simulated day as Arrow: contract events, and the truth of each session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Int64s
from feature_repo.clock import EPOCH
from feature_repo.contract.validation import SCHEMA_VERSION, arrow_schema
from streaming.simulator.shop import CATEGORIES, Shop
from streaming.simulator.shop_events import IMPRESSION, TYPES, Day

EVENT_SCHEMA = pa.schema([f for f in arrow_schema("event") if f.name != "ingested_at"])
"""The lake's event columns except `ingested_at`, which ingestion adds."""


def event_table(shop: Shop, day: Day) -> pa.Table:
    """Return the day's events in order of time, with the columns of `EVENT_SCHEMA`."""
    events, users = day.events, shop.users
    start_us = round((shop.config.start - EPOCH).total_seconds()) * 1_000_000
    denies = events.identified & ~users.consent[events.user]
    columns: dict[str, Any] = {
        "event_id": _numbered("e", events.day, events.number),
        "event_type": _chosen(TYPES, events.type),
        "event_time": pa.array(start_us + events.time_ms * 1000, pa.int64()).cast(
            pa.timestamp("us", tz="UTC")
        ),
        "session_id": _numbered("s", events.day, events.session),
        "user_id": _chosen(users.ids, np.where(events.identified, events.user, -1)),
        "item_id": _chosen(shop.items.ids, events.item),
        "items": _lists(shop, day),
        "request_id": _numbered("r", events.day, events.page),
        "position": _masked(events.position),
        "query": _chosen(CATEGORIES, events.query),
        "consent": pa.array(np.zeros(len(denies), bool), mask=~denies),
        "properties": _no_properties(len(denies)),
        "schema_version": pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int64()), len(denies)),
    }
    return pa.table([columns[f.name].cast(f.type) for f in EVENT_SCHEMA], schema=EVENT_SCHEMA)


def session_table(shop: Shop, day: Day) -> pa.Table:
    """Return what only the simulator knows of a session: its user, and the intent of each page."""
    seen, on = day.visits, day.pages
    n = len(seen.user)
    offsets = np.concatenate([[0], np.cumsum(seen.pages)]).astype(np.int32)
    return pa.table(
        {
            "session_id": _numbered("s", np.full(n, day.number), np.arange(n)),
            "user_id": _chosen(shop.users.ids, seen.user),
            "anonymous": pa.array(seen.anonymous),
            "logs_in": pa.array(seen.logs_in),
            "intents": pa.ListArray.from_arrays(pa.array(offsets), _chosen(CATEGORIES, on.intent)),
        }
    )


def _lists(shop: Shop, day: Day) -> pa.Array:
    """Return the list of each impression, empty for other events."""
    events, lists = day.events, day.shown
    impressions = events.type == IMPRESSION
    page = events.page[impressions]
    item, score = lists.item[page], lists.score[page]
    filled = item >= 0
    length = np.zeros(len(events.type), np.int64)
    length[impressions] = filled.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    slots = pa.StructArray.from_arrays(
        [_chosen(shop.items.ids, item[filled]), pa.array(score[filled])], ["item_id", "score"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets), slots)


def _numbered(prefix: str, day: Int64s, number: Int64s) -> pa.Array:
    """Return ids like ``e3-17``; null where the number is negative."""
    text = pc.binary_join_element_wise(
        pc.cast(pa.array(day), pa.string()), pc.cast(_masked(number), pa.string()), "-"
    )
    return pc.binary_join_element_wise(prefix, text, "")


def _chosen(names: Any, index: Int64s) -> pa.Array:
    return pa.array(names, pa.string()).take(_masked(index))


def _no_properties(n: int) -> pa.Array:
    # `pa.repeat` refuses zero maps, and a day without visitors has no event.
    empty = pa.array([], pa.string())
    return pa.MapArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), empty, empty)


def _masked(values: Int64s) -> pa.Array:
    return pa.array(values, mask=values < 0)
