"""Makes the first slots diverse: maximal marginal relevance and a cap per category."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.control.flags import Diversity
from serving.items.item_snapshot import ItemSnapshot
from serving.pipeline.context import RankContext
from serving.schemas.rank_response import Tier
from serving.scoring.ordering import floats, indices
from serving.scoring.similarity import Wanted, diversified, items_of


def diversify(order: Ints, scores: Floats, numbers: Ints, snapshot: ItemSnapshot, rules: Diversity) -> Ints:
    """Diversify the first slots; the remaining candidates keep their order.

    Each slot takes the candidate with the largest ``λ · score − (1 − λ) · max similarity`` to those above,
    with scores scaled to ``[0, 1]`` (MMR, Carbonell & Goldstein 1998). Candidates of a full category are
    skipped while others remain.

    Args:
        order: candidate indices, best first, without repetition.
        scores: by candidate.
        numbers: snapshot item number by candidate, -1 if unknown; an unknown item is similar to no other.

    Returns:
        The new order, or the same array if nothing moves.

    Raises:
        IndexError: `order` or `numbers` is out of range.
    """
    slots = min(rules.slots, len(order))
    depth = max(min(rules.depth, len(order)), slots)
    if not rules.active or slots < 2:  # noqa: PLR2004 - a single item is always diverse
        return order
    out = np.array(order, np.int64)
    wanted = Wanted(slots, depth, float(rules.relevance), rules.per_category or 0)
    done = diversified(out, floats(scores), indices(numbers), wanted, items_of(snapshot))
    if done < 0:
        msg = "order, numbers: an index is out of range"
        raise IndexError(msg)
    return out if done else order


class DiversityStage:
    """Applies maximal marginal relevance and the cap per category to the blended order."""

    name = "diversity"
    personal = True

    def run(self, context: RankContext) -> None:
        """Reorder the first slots."""
        snapshot, rules = context.model.snapshot, context.flags.diversity
        if context.tier is Tier.BASE or snapshot is None or not rules.active:
            return
        order = diversify(context.order, context.scores, context.numbers, snapshot, rules)
        if order is not context.order:
            context.reorder(order, self.name)
