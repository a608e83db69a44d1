"""The ground truth of a simulated shop: the causes of the events, and the counts by type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streaming.simulator import traffic
from streaming.simulator.delivery import Counts
from streaming.simulator.shop import CATEGORIES, SEGMENTS, Shop

_CAUSES = (
    *("BASE", "INTENT", "TASTE", "BRAND", "PRICE", "APPEAL"),
    *("POSITION_BIAS", "INTENT_OFF_TASTE", "INTENT_DRIFT"),
)


def stem_of(out: Path) -> Path:
    """Return ``shop`` for ``shop.jsonl.gz`` and ``shop.parquet``."""
    name = out.name
    for ending in (".gz", ".jsonl", ".parquet"):
        name = name.removesuffix(ending)
    return out.with_name(name)


def write_truth(out: Path, shop: Shop, counts: Counts, sessions: Sequence[pa.Table]) -> None:
    """Write ``<stem>.truth.json`` (counts, causes) and ``<stem>.truth.{users,items,sessions}.parquet``."""
    stem, users, items = stem_of(out), shop.users, shop.items
    summary = {
        "config": {**asdict(shop.config), "end": shop.config.end.isoformat()},
        "counts": {
            "events": counts.events,
            "duplicates": counts.duplicates,
            "late": counts.late,
            "malformed": counts.malformed,
            "lines": counts.lines,
            "items": len(items.ids),
            "users": len(users.ids),
            "by_type": dict(sorted(counts.by_type.items())),
        },
        "click_model": {name.lower(): getattr(traffic, name) for name in _CAUSES},
        "segments": {
            segment: dict(zip(CATEGORIES, (round(float(s), 6) for s in shares), strict=True))
            for segment, shares in zip(SEGMENTS, shop.segment_taste, strict=True)
        },
    }
    stem.with_name(f"{stem.name}.truth.json").write_text(json.dumps(summary, indent=2) + "\n")
    tables = {
        "users": pa.table(
            {
                "user_id": users.ids,
                "segment": [SEGMENTS[s] for s in users.segment],
                "taste": pa.array(list(users.taste), pa.list_(pa.float64())),
                "price_level": users.price_level,
                "first_day": users.first_day,
            }
        ),
        "items": pa.table(
            {"item_id": items.ids, "appeal": items.appeal, "log_popularity": items.log_popularity}
        ),
        "sessions": pa.concat_tables(sessions),
    }
    for name, table in tables.items():
        pq.write_table(table, stem.with_name(f"{stem.name}.truth.{name}.parquet"), compression="zstd")
