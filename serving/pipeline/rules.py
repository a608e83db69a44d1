"""Applies the business rules to every answer, personalized or not."""

from __future__ import annotations

import logging
from collections.abc import Collection
from operator import itemgetter

import numpy as np

from serving.control.apply_rules import apply_rules
from serving.features.reading import UNANSWERED
from serving.pipeline.context import RankContext, Row
from serving.schemas.rank_response import Dropped

log = logging.getLogger(__name__)

UNREAD = frozenset({"consent_denied", "consent_unknown", "stream_stale", *UNANSWERED})
"""Codes of requests whose features were not, or not all, read."""


class RulesStage:
    """Excludes, demotes, limits and pins candidates; lists dropped ones with the rule's name.

    Args:
        purchase_weight: engagement weight of a purchase, to recognize purchases in a row.
    """

    name = "rules"
    personal = False

    def __init__(self, purchase_weight: float) -> None:
        self._purchase_weight = purchase_weight

    def run(self, context: RankContext) -> None:
        """Set `order`, `placed` and `dropped`."""
        rules = context.model.rules
        if not rules.rules:
            return
        if context.model.snapshot is None and rules.of_attributes:
            context.degrade("attributes_unknown")
        item_ids = context.item_ids
        bought = bought_of(context, self._purchase_weight)
        ruled = apply_rules(rules, context.order, item_ids, context.model.snapshot, bought)
        if len(ruled.order) != len(context.order) or (ruled.order != context.order).any():
            context.reorder(ruled.order, self.name)
        context.placed = ruled.moved
        context.dropped = [Dropped(item_ids[index], rule) for index, rule in ruled.dropped]


def bought_of(context: RankContext, purchase_weight: float) -> frozenset[str]:
    """Return the items that the session and its user bought, if a rule needs them.

    A damaged or unread row counts as unknown and must not disable the other rules.
    """
    if not context.model.rules.of_bought:
        return frozenset()
    if _unread(context):
        context.degrade("bought_unknown")
    bought: set[str] = set()
    cart = () if context.session is None else context.session.values.get("cart_item_ids")
    for row in (context.session, context.recent, context.user):
        try:
            bought |= bought_in(row, purchase_weight, frozenset(cart or ()))
        except (TypeError, ValueError, KeyError) as error:
            log.warning("a row of request %r is damaged (%s)", context.request_id, type(error).__name__)
            context.degrade("bought_unknown")
    return frozenset(bought)


def _unread(context: RankContext) -> bool:
    """Whether a row with purchases was not read, or may not be used.

    A row that does not exist or has expired counts as read.
    """
    request, rows = context.request, {}
    if request.user_id is not None:
        rows = {"user": context.user, "recent": context.recent}
    elif request.session_id is not None:
        rows = {"session": context.session}
    absent = [name for name, row in rows.items() if row is None]
    if not absent:
        return False
    if "features" not in context.completed or not UNREAD.isdisjoint(context.degraded):
        return True
    return any(f"{n}_profile" in context.ages and f"{n}_expired" not in context.degraded for n in absent)


def bought_in(row: Row | None, purchase_weight: float, cart: Collection[str] = frozenset()) -> frozenset[str]:
    """Return the items bought according to a row of `user_profile`, `session_profile` or `user_recent`.

    `user_profile` lists them. The others hold engagement by item instead of events. There, of the items with
    at least the weight of a purchase, the heaviest ones count, as many as there were purchases.

    Args:
        cart: items in the cart, which were not bought since they were added.
    """
    values = {} if row is None else row.values
    if "purchased_items" in values:
        return frozenset(values["purchased_items"] or ()).difference(cart)
    count = values.get("purchase_count") or 0
    weights = np.asarray(values.get("item_weights") or (), np.float64)
    if not len(weights) or count < 1:
        return frozenset()
    touched = list(zip(values["item_ids"], weights.tolist(), strict=True))
    heavy = [entry for entry in touched if entry[1] >= purchase_weight and entry[0] not in cart]
    heavy.sort(key=itemgetter(1), reverse=True)
    return frozenset(item_id for item_id, _ in heavy[:count])
