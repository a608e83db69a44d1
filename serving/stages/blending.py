"""Scores the candidates with the fitted blend of all signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.answer import Tier
from serving.base import Ints
from serving.context import Contributions, RankContext, Row
from serving.order import falling
from serving.signals import Known, SignalMatrix, signals, touched_items
from serving.taste import KeptTastes, Tastes

if TYPE_CHECKING:
    from serving.snapshot import ItemSnapshot

ITEMS = "item_profile"


class BlendStage:
    """Orders by the blend of base score, long-term, segment and session signals."""

    name = "blend"
    personal = True

    def __init__(self) -> None:
        self._tastes = KeptTastes()

    def run(self, context: RankContext) -> None:
        """Set scores, order, tier and, to be explained, `contributions`; without a model the base stands."""
        snapshot, blend = context.model.snapshot, context.model.blend
        if snapshot is None:
            return context.settle("items_missing")
        if blend is None:
            return context.settle("blend_missing")
        tier = tier_of(context)
        if tier is Tier.BASE:
            return context.settle()
        if blend.kind != "fitted":
            # The gate kept a simple order: it serves everyone alike, so nothing here is personal.
            context.degrade("gate_closed")
            tier = Tier.BASE
        first = context.base.order
        rows, matrix = request_signals(context, snapshot, self._tastes)
        factors = tuple(sorted(context.flags.weights.items()))
        if context.request.explain:
            parts, sums = blend.contributions(matrix, factors)
            contributions = Contributions(matrix.names, parts)
        else:
            sums, contributions = blend.scores(matrix, factors), None
        scores = np.empty(len(first))
        scores[first] = sums
        order = first[falling(sums)]
        context.ages[ITEMS] = max((context.now - snapshot.as_of).total_seconds(), 0.0)
        context.numbers = np.empty(len(first), np.intp)
        context.numbers[first] = rows
        context.contributions = contributions
        context.scores, context.order, context.tier = scores, order, tier
        return None


def gather(context: RankContext) -> None:
    """Look the candidates up: it needs nothing of the store, so it is done while that answers."""
    snapshot = context.model.snapshot
    if snapshot is not None:
        context.gathered = snapshot.gather(context.item_ids, context.base.order)


def request_signals(
    context: RankContext, snapshot: ItemSnapshot, tastes: Tastes
) -> tuple[Ints, SignalMatrix]:
    """Item numbers and signals of a request, both in base order."""
    order, session = context.base.order, _values(context.session)
    numbers = context.gathered
    if numbers is None:
        numbers = snapshot.numbers(context.item_ids)[order]
    rows = snapshot.rows(numbers, touched_items(session))
    return rows.rows, signals(
        context.base.scores[order],
        rows,
        Known(_values(context.user), _values(context.segment), session),
        int(context.now.timestamp() * 1000),
        tastes=tastes,
    )


def tier_of(context: RankContext) -> Tier:
    """The highest tier that the features at hand allow."""
    if context.session is not None:
        return Tier.SESSION_LONG_TERM if context.user is not None else Tier.SESSION_SEGMENT
    if context.user is not None:
        return Tier.LONG_TERM
    return Tier.SEGMENT if context.segment is not None else Tier.BASE


def _values(row: Row | None) -> Mapping[str, Any] | None:
    return None if row is None else row.values
