"""Applies the business rules: to every answer, personalized or not."""

from __future__ import annotations

import logging

import numpy as np

from serving.answer import Dropped
from serving.context import RankContext, Row
from serving.ruling import apply_rules

log = logging.getLogger(__name__)


class RulesStage:
    """Excludes, demotes, limits and pins; what is dropped is listed with the rule's name.

    Args:
        purchase_weight: engagement weight of a purchase, by which the session's purchases are told.
    """

    name = "rules"
    personal = False

    def __init__(self, purchase_weight: float) -> None:
        self._purchase_weight = purchase_weight

    def run(self, context: RankContext) -> None:
        """Set `order` and `dropped`."""
        rules = context.model.rules
        if not rules.rules:
            return
        item_ids = context.item_ids
        bought = bought_of(context, self._purchase_weight)
        ruled = apply_rules(rules, context.order, item_ids, context.model.snapshot, bought)
        if len(ruled.order) != len(context.order) or (ruled.order != context.order).any():
            context.reorder(ruled.order, self.name)
        context.dropped = [Dropped(item_ids[index], rule) for index, rule in ruled.dropped]


def bought_of(context: RankContext, purchase_weight: float) -> frozenset[str]:
    """What the session bought; nothing where its row is damaged, which must not void the rules."""
    try:
        return bought_in(context.session, purchase_weight)
    except (TypeError, ValueError, KeyError) as error:
        log.warning("session row of request %r is damaged (%s)", context.request_id, type(error).__name__)
        context.degrade("bought_unknown")
        return frozenset()


def bought_in(session: Row | None, purchase_weight: float) -> frozenset[str]:
    """Items of a session with a purchase whose engagement is at least that of one.

    The session keeps engagement by item, not events: in a session that bought something, an item viewed as
    often as a purchase weighs counts as bought too.
    """
    values = {} if session is None else session.values
    weights = np.asarray(values.get("item_weights") or (), np.float64)
    if not len(weights) or not values.get("purchase_count"):
        return frozenset()
    return frozenset(i for i, w in zip(values["item_ids"], weights, strict=True) if w >= purchase_weight)
