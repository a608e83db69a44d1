"""Items that are touched in the same sessions, and what is touched next."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from feature_repo.group import ITEM, BatchParams, DType, Expectation, Feature, FeatureGroup, LakeTables

if TYPE_CHECKING:
    import ibis.expr.types as ir


def expression(tables: LakeTables, params: BatchParams) -> ir.Table:
    """Compute one row per item engaged with in a session."""
    from feature_repo.expressions import events, sessions  # noqa: PLC0415 - imports Ibis, half a second
    from feature_repo.expressions.affinity import FLOATS, STRINGS, or_empty  # noqa: PLC0415

    top_k = params.neighbours_top_k
    engaged = sessions.engaged_in_runs(events.marked(tables, params), params)
    items = sessions.session_items(engaged)
    touched = items.group_by("item_id").agg(session_count=items.count())
    near = sessions.strongest(sessions.pairs(items), "sessions", top_k)
    rows = touched.left_join(near, touched.item_id == near._item).drop("_item").rename(near="found")
    steps = sessions.steps(engaged)
    left = steps.group_by(_left="item_id").agg(next_total=steps.times.sum())
    rows = rows.left_join(left, rows.item_id == left._left).drop("_left")
    after = sessions.strongest(steps, "times", top_k)
    rows = rows.left_join(after, rows.item_id == after._item).rename(after="found")
    return rows.select(
        "item_id",
        neighbour_ids=or_empty(rows.near.map(lambda n: n["other"]), STRINGS),
        neighbour_counts=or_empty(rows.near.map(lambda n: n["count"].cast("float64")), FLOATS),
        session_count=rows.session_count,
        next_ids=or_empty(rows.after.map(lambda n: n["other"]), STRINGS),
        next_counts=or_empty(rows.after.map(lambda n: n["count"].cast("float64")), FLOATS),
        next_total=rows.next_total.cast("int64").fill_null(0),
    )


GROUP = FeatureGroup(
    name="item_neighbours",
    entity=ITEM,
    meaning="Items most often touched in the same sessions, and most often touched next.",
    features=(
        Feature("neighbour_ids", DType.STRINGS, "Neighbours, strongest first."),
        Feature("neighbour_counts", DType.FLOAT64S, "Sessions that touched both.", "sessions"),
        Feature("session_count", DType.INT64, "Sessions that touched the item.", "sessions"),
        Feature("next_ids", DType.STRINGS, "Items touched next, most frequent first."),
        Feature("next_counts", DType.FLOAT64S, "How often each was touched next.", "times"),
        Feature("next_total", DType.INT64, "How often any other item was touched next.", "times"),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
    batch=expression,
    expectations=(
        Expectation("same_length", columns=("neighbour_ids", "neighbour_counts")),
        Expectation("same_length", columns=("next_ids", "next_counts")),
    ),
)
