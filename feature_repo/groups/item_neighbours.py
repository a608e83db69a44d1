"""Items that are touched in the same sessions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from feature_repo.group import ITEM, BatchParams, DType, Expectation, Feature, FeatureGroup, LakeTables

if TYPE_CHECKING:
    import ibis.expr.types as ir


def expression(tables: LakeTables, params: BatchParams) -> ir.Table:
    """Compute one row per item engaged with in a session."""
    import ibis  # noqa: PLC0415 - half a second, and everything imports the declarations

    from feature_repo.expressions import events, sessions  # noqa: PLC0415
    from feature_repo.expressions.affinity import FLOATS, STRINGS, or_empty  # noqa: PLC0415

    items = sessions.session_items(events.marked(tables, params), params)
    touched = items.group_by("item_id").agg(session_count=items.count())
    pairs = sessions.pairs(items)
    order = [pairs.sessions.desc(), pairs.other.asc()]
    ranked = pairs.mutate(rank=ibis.row_number().over(group_by="item_id", order_by=order))
    ranked = ranked.filter(ranked["rank"] < params.neighbours_top_k)
    one = ibis.struct({"rank": ranked["rank"], "other": ranked.other, "sessions": ranked.sessions})
    lists = ranked.group_by("item_id").agg(neighbours=one.collect())
    lists = lists.select(_item="item_id", neighbours=lists.neighbours.sort())
    rows = touched.left_join(lists, touched.item_id == lists._item)
    return rows.select(
        "item_id",
        neighbour_ids=or_empty(rows.neighbours.map(lambda n: n["other"]), STRINGS),
        neighbour_counts=or_empty(rows.neighbours.map(lambda n: n["sessions"].cast("float64")), FLOATS),
        session_count=rows.session_count,
    )


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
    batch=expression,
    expectations=(Expectation("same_length", columns=("neighbour_ids", "neighbour_counts")),),
)
