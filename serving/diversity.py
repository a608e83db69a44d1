"""Diversity: maximal marginal relevance (Carbonell and Goldstein 1998) over categories and vectors, and a cap
on items of one category."""

from __future__ import annotations

import numpy as np

from serving.attributes import Floats, Ints
from serving.flags import Diversity
from serving.order import floats, indices
from serving.similarity import Wanted, diversified, items_of
from serving.snapshot import ItemSnapshot


def diversify(order: Ints, scores: Floats, numbers: Ints, snapshot: ItemSnapshot, rules: Diversity) -> Ints:
    """The order with its first slots made diverse; what they do not take follows as it stood.

    Each slot takes the candidate with the largest ``λ · score − (1 − λ) · max similarity`` to those above,
    scores scaled to ``[0, 1]``. A candidate whose category is full is passed over while another can be had.

    Args:
        order: candidate indices, best first; without repetition.
        scores: by candidate.
        numbers: snapshot item number by candidate, -1 where unknown; an unknown item is like no other.

    Returns:
        the very same array where nothing moves.

    Raises:
        IndexError: `order` or `numbers` holds what there is not.
    """
    slots = min(rules.slots, len(order))
    depth = max(min(rules.depth, len(order)), slots)
    if not rules.active or slots < 2:  # noqa: PLR2004 - one item is as diverse as can be
        return order
    out = np.array(order, np.int64)
    wanted = Wanted(slots, depth, float(rules.relevance), rules.per_category or 0)
    done = diversified(out, floats(scores), indices(numbers), wanted, items_of(snapshot))
    if done < 0:
        msg = "order, numbers: hold what is neither a candidate nor an item"
        raise IndexError(msg)
    return out if done else order
