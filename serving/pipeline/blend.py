"""Scores the candidates with the fitted blend of all signals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_repo.arrays import Ints
from feature_repo.group import FeatureGroup
from feature_repo.groups.item_neighbours import GROUP as NEIGHBOURS
from feature_repo.groups.item_profile import GROUP as ITEMS
from serving.pipeline.context import Contributions, RankContext, Row
from serving.schemas.rank_response import Tier
from serving.scoring.blend import Blend
from serving.scoring.ordering import falling
from serving.scoring.profile_signals import KeptTastes, Tastes
from serving.scoring.ranker import personal
from serving.scoring.rankers import all_rankers
from serving.scoring.signal_matrix import Known, SignalMatrix, signal_names, signals, touched_items

if TYPE_CHECKING:
    from serving.items.item_snapshot import ItemSnapshot


class BlendStage:
    """Orders by the blend of base score, long-term, segment and session signals."""

    name = "blend"
    personal = True

    def __init__(self) -> None:
        self._tastes = KeptTastes()

    def run(self, context: RankContext) -> None:
        """Set scores, order and tier, and `contributions` if an explanation is wanted.

        Without a model the base order remains. Items and neighbours past their time-to-live count as missing.
        """
        snapshot, blend = context.model.snapshot, context.model.blend
        if snapshot is None:
            return context.settle("items_missing")
        if not in_time(context, ITEMS, snapshot.as_of, "items"):
            return context.settle()
        if context.flags.ranker:
            blend = rule_blend(context.flags.ranker, snapshot.attributes.types, snapshot.numeric_names)
        if blend is None:
            return context.settle("blend_missing")
        tier = tier_of(context)
        alike = blend.kind != "fitted" and not personal(blend.names)
        if tier is Tier.BASE and not alike:
            return context.settle()
        if blend.kind != "fitted" and not context.flags.ranker:
            context.degrade("gate_closed")
        tier = Tier.BASE if alike else tier  # an order that is the same for everyone is not personal
        first = context.base.order
        rows, matrix = request_signals(context, snapshot, self._tastes, blend.wanted)
        factors = tuple(sorted(context.flags.weights.items()))
        if context.request.explain:
            parts, sums = blend.contributions(matrix, factors)
            contributions = Contributions(blend.names, parts)
        else:
            sums, contributions = blend.scores(matrix, factors), None
        scores = np.empty(len(first))
        scores[first] = sums
        order = first[falling(sums)]
        context.numbers = np.empty(len(first), np.intp)
        context.numbers[first] = rows
        context.contributions = contributions
        context.scores, context.order, context.tier = scores, order, tier
        return None


@lru_cache(maxsize=64)
def rule_blend(ranker: str, types: tuple[str, ...], numeric_names: tuple[str, ...]) -> Blend:
    """Return the blend of a simple rule for a catalogue."""
    return all_rankers()[ranker].blend(signal_names(types, numeric_names))


def gather(context: RankContext) -> None:
    """Look up the candidates' item numbers. This needs no store, so it runs while the store answers."""
    snapshot = context.model.snapshot
    if snapshot is not None:
        context.gathered = snapshot.gather(context.item_ids, context.base.order)


def request_signals(
    context: RankContext, snapshot: ItemSnapshot, tastes: Tastes, wanted: frozenset[str] | None = None
) -> tuple[Ints, SignalMatrix]:
    """Compute the item numbers and signals of a request, both in base order.

    Args:
        wanted: names of the signals to compute; `None` for all.
    """
    order, session = context.base.order, _values(context.session)
    numbers = context.gathered
    if numbers is None:
        numbers = snapshot.numbers(context.item_ids)[order]
    touched = touched_items(session)
    rows = snapshot.rows(numbers, touched, covisits=not touched or _neighbours_in_time(context, snapshot))
    return rows.rows, signals(
        context.base.scores[order],
        rows,
        Known(_values(context.user), _values(context.segment), session),
        int(context.now.timestamp() * 1000),
        tastes=tastes,
        wanted=wanted,
    )


def in_time(context: RankContext, group: FeatureGroup, as_of: datetime, name: str) -> bool:
    """Whether a build is within its time-to-live at the time of the request.

    Records its age, and a code if it exceeds its time-to-live or its freshness budget.

    Args:
        name: name of the group in codes.
    """
    age = context.now - as_of
    context.ages[group.name] = max(age.total_seconds(), 0.0)
    if age > group.ttl:
        context.degrade(f"{name}_expired")
        return False
    if age > group.freshness:
        context.degrade(f"{name}_stale")
    return True


def _neighbours_in_time(context: RankContext, snapshot: ItemSnapshot) -> bool:
    as_of = snapshot.neighbours_as_of
    return as_of is None or in_time(context, NEIGHBOURS, as_of, "neighbours")


def tier_of(context: RankContext) -> Tier:
    """Return the highest tier that the available features allow."""
    if context.session is not None:
        return Tier.SESSION_LONG_TERM if context.user is not None else Tier.SESSION_SEGMENT
    if context.user is not None:
        return Tier.LONG_TERM
    return Tier.SEGMENT if context.segment is not None else Tier.BASE


def _values(row: Row | None) -> Mapping[str, Any] | None:
    return None if row is None else row.values
