"""Ranks a made-up shop before a server reports ready, so that no request waits for a loop to compile.

The real shop is not enough: it may have no items yet, and without a known user the stages that act on
personalized scores would have nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo.groups import all_groups
from serving.control.flags import Cap, Diversity, Exploration, Flags
from serving.control.reloading import Model
from serving.decisions.page_metrics import page_figures
from serving.items.item_snapshot import ItemSnapshot, snapshot_of
from serving.pipeline.blend import gather
from serving.pipeline.context import RankContext, Row
from serving.pipeline.stage import Stage
from serving.schemas.rank_request import Candidate, RankRequest, item_id_of
from serving.scoring.blend import Blend, Gate
from serving.scoring.ordering import is_whole
from serving.scoring.signal_matrix import signal_names

_NOW = datetime(2024, 1, 1, tzinfo=UTC)
_COUNT = 40
_KEYS = ("category:a", "category:b", "brand:a")
_PROFILE: dict[str, Any] = {
    "attr_keys": list(_KEYS),
    "attr_clicks": [3.0, 1.0, 2.0],
    "attr_expected": [1.0, 2.0, 1.0],
    "click_rate": 1.0,
    "numeric_keys": ["price"],
    "numeric_medians": [20.0],
}
_SESSION: dict[str, Any] = {
    "item_ids": ["0", "1"],
    "item_times_ms": [int(_NOW.timestamp() * 1000)] * 2,
    "item_weights": [1.0, 2.0],
    "attr_keys": list(_KEYS),
    "attr_weights": [1.0, 2.0, 3.0],
}
_FLAGS = (
    Flags(cap=Cap(positions=5, share=0.5), diversity=Diversity(relevance=0.3, per_category=1)),
    Flags(exploration=Exploration(share=0.2)),
)


def warm_stages(stages: Sequence[Stage], flags: Flags) -> None:
    """Run the scoring stages over the made-up shop, with and without a user profile and a session.

    Args:
        flags: the flags in force; their exploration probabilities are computed in advance too.
    """
    snapshot = _snapshot()
    names = signal_names(snapshot.attributes.types, snapshot.numeric_names)
    blend = Blend(
        version="warm-up",
        kind="fitted",
        names=names,
        scales=(1.0,) * len(names),
        weights=tuple(float(n % 3) for n in range(len(names))),
        gate=Gate(passed=True, reason="warm-up"),
    )
    for used in (*_FLAGS, flags):
        model = Model(snapshot, blend, used)
        for scored in (True, False):
            for row, session in ((_PROFILE, _SESSION), (_PROFILE, None), (None, _SESSION)):
                _rank(stages, model, scored, row, session)
    page_figures(np.arange(3), snapshot)


def _rank(
    stages: Sequence[Stage],
    model: Model,
    scored: bool,
    profile: dict[str, Any] | None,
    session: dict[str, Any] | None,
) -> None:
    candidates = [Candidate(str(n), float(n * 7 % 5) if scored else None) for n in range(_COUNT + 1)]
    context = RankContext(
        request=RankRequest(candidates=candidates, explain=True),
        request_id="warm-up",
        model=model,
        now=_NOW,
        arrived=0.0,
        deadline=np.inf,
        item_ids=list(map(item_id_of, candidates)),
        flags=model.flags,
    )
    if profile is not None:
        context.user = context.segment = Row(profile, _NOW)
    if session is not None:
        context.session = Row(session, _NOW)
    gather(context)
    for stage in stages:
        stage.run(context)
    is_whole(context.order, context.scores, len(candidates))


def _snapshot() -> ItemSnapshot:
    """Build a snapshot of items with and without each optional feature."""
    whole = {
        "age_days": 1.0,
        "numeric_keys": ["price"],
        "numeric_values": [10.0],
        "ctr": 0.1,
        "clicks": 1.0,
        "purchases": 1.0,
        "popularity_short": 1.0,
        "popularity_mid": 1.0,
        "popularity_long": 1.0,
    }
    rows = [
        {
            **whole,
            "item_id": str(number),
            "categories": ["ab"[number % 2]],
            "attr_keys": [_KEYS[number % 2], _KEYS[2]],
            "vector": [1.0, float(number)] if number % 5 else [],
        }
        for number in range(_COUNT)
    ]
    near = [
        {
            "item_id": "0",
            "neighbour_ids": ["1"],
            "neighbour_counts": [2.0],
            "session_count": 3,
            "next_ids": ["1"],
            "next_counts": [2.0],
            "next_total": 3,
        }
    ]
    return snapshot_of(_table("item_profile", rows), _table("item_neighbours", near), "warm-up", _NOW)


def _table(group: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=all_groups()[group].arrow_schema)
