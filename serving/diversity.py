"""Diversity: maximal marginal relevance (Carbonell and Goldstein 1998) over categories and vectors, and a cap
on items of one category."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from serving.attributes import Floats, Ints
from serving.snapshot import ItemSnapshot

ROUNDING = 1e-9


class Diversity(Struct, frozen=True, forbid_unknown_fields=True):
    """How different neighbours on the page shall be."""

    relevance: Annotated[
        Annotated[float, Meta(ge=0.0, le=1.0)],
        Meta(
            description="Weight of the score against difference from what stands above; 1 is the score alone."
        ),
    ] = 0.95
    per_category: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(description="Items of one category among the first slots; null: any."),
    ] = None
    slots: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Meta(description="First slots of an answer that are made diverse."),
    ] = 10
    depth: Annotated[
        Annotated[int, Meta(ge=2, le=500)],
        Meta(description="Candidates, the best, that may fill those slots."),
    ] = 50

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.relevance < 1.0 or self.per_category is not None


def diversify(order: Ints, scores: Floats, numbers: Ints, snapshot: ItemSnapshot, rules: Diversity) -> Ints:
    """The order with its first slots made diverse; what they do not take follows as it stood.

    Each slot takes the candidate with the largest ``λ · score − (1 − λ) · max similarity`` to those above,
    scores scaled to ``[0, 1]``. A candidate whose category is full is passed over while another can be had.

    Args:
        order: candidate indices, best first.
        scores: by candidate.
        numbers: snapshot item number by candidate, -1 where unknown; an unknown item is like no other.
    """
    slots = min(rules.slots, len(order))
    depth = max(min(rules.depth, len(order)), slots)
    if not rules.active or slots < 2:  # noqa: PLR2004 - one item is as diverse as can be
        return order
    pool = order[:depth]
    gain = rules.relevance * _unit(scores[pool])
    among = _eligible(gain, slots, rules)
    taken = among[_picked(gain[among], numbers[pool[among]], slots, snapshot, rules)]
    left = np.ones(depth, bool)
    left[taken] = False
    return np.concatenate([pool[taken], pool[left], order[depth:]])


def _eligible(gain: Floats, slots: int, rules: Diversity) -> Ints:
    """Which of the pool can win a slot at all.

    One of the `slots` best is left until the last slot is taken, and loses ``1 − λ`` to similarity at most:
    what is worth less than that without any loss is never taken. A cap on categories may pass over them.
    """
    if rules.per_category is not None:
        return np.arange(len(gain))
    least = np.sort(gain)[len(gain) - slots] - (1.0 - rules.relevance) - ROUNDING
    eligible: Ints = (gain >= least).nonzero()[0]
    return eligible


def _picked(gain: Floats, rows: Ints, slots: int, snapshot: ItemSnapshot, rules: Diversity) -> list[int]:
    """Places of those that take the slots, in the order of the slots."""
    member = members_of(rows, snapshot)
    penalty = similarity(rows, member, snapshot)
    penalty *= 1.0 - rules.relevance
    nearest = np.zeros(len(gain))
    picked: list[int] = []
    for _ in range(slots):
        value = gain - nearest
        if rules.per_category is not None:
            full = (member @ (member[picked].sum(axis=0) >= rules.per_category)) > 0
            if (value[~full] > -np.inf).any():
                value[full] = -np.inf
        best = int(value.argmax())
        picked.append(best)
        gain[best] = -np.inf
        np.maximum(nearest, penalty[best], out=nearest)
    return picked


def similarity(rows: Ints, member: Floats, snapshot: ItemSnapshot) -> Floats:
    """Similarity of items in ``[0, 1]``: mean of the cosines of categories and of vectors ``(d, d)``.

    Where an item has no vector, categories alone count; an unknown item has similarity 0.
    """
    sizes = np.sqrt(np.add.reduce(member, axis=1))
    by_category: Floats = member @ member.T
    by_category /= np.maximum(np.multiply.outer(sizes, sizes), 1.0)
    vectors, lengths = snapshot.vectors[rows], snapshot.vector_lengths[rows]
    if (strangers := rows < 0).any():
        vectors[strangers] = lengths[strangers] = 0.0
    if not (known := lengths > 0).any():
        return by_category
    cosines = vectors @ vectors.T
    cosines /= np.maximum(np.multiply.outer(lengths, lengths), np.float32(1e-9))
    np.minimum(np.maximum(cosines, 0.0, out=cosines), 1.0, out=cosines)
    mean = by_category + cosines
    mean /= 2.0
    return mean if known.all() else np.where(np.logical_and.outer(known, known), mean, by_category)


def members_of(rows: Ints, snapshot: ItemSnapshot) -> Floats:
    """Which item is in which category, for the categories among them ``(d, categories)``."""
    places, lengths = snapshot.category_spans.of(rows)
    flat = snapshot.categories[places]
    column = np.zeros(len(snapshot.category_names), np.intp)
    column[flat] = 1
    found = column.nonzero()[0]
    column[found] = np.arange(len(found))
    member = np.zeros((len(rows), len(found)))
    member[np.arange(len(rows)).repeat(lengths), column[flat]] = 1.0
    return member


def _unit(scores: Floats) -> Floats:
    low = scores.min()
    spread = float(scores.max() - low)
    return (scores - low) / spread if spread > 0 else np.zeros(len(scores))
