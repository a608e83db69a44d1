"""Diversity: maximal marginal relevance (Carbonell and Goldstein 1998) over categories and vectors, and a cap
on items of one category."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from serving.attributes import Floats, Ints
from serving.snapshot import ItemSnapshot


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
    rows = numbers[pool]
    member = members_of(rows, snapshot)
    similar = similarity(rows, member, snapshot)
    gain = rules.relevance * _unit(scores[pool])
    nearest = np.zeros(depth)
    counts = np.zeros(member.shape[1])
    taken = np.zeros(depth, bool)
    picked: list[int] = []
    for _ in range(slots):
        value = gain - (1.0 - rules.relevance) * nearest
        value[taken] = -np.inf
        if rules.per_category is not None:
            full = (member @ (counts >= rules.per_category)) > 0
            if not (full | taken).all():
                value[full] = -np.inf
        best = int(np.argmax(value))
        picked.append(best)
        taken[best] = True
        counts += member[best]
        np.maximum(nearest, similar[best], out=nearest)
    rest = np.flatnonzero(~taken)
    return np.concatenate([pool[picked], pool[rest], order[depth:]])


def similarity(rows: Ints, member: Floats, snapshot: ItemSnapshot) -> Floats:
    """Similarity of items in ``[0, 1]``: mean of the cosines of categories and of vectors ``(d, d)``.

    Where an item has no vector, categories alone count; an unknown item has similarity 0.
    """
    sizes = np.sqrt(member.sum(axis=1))
    by_category = (member @ member.T) / np.maximum(np.outer(sizes, sizes), 1.0)
    vectors = np.where((rows >= 0)[:, None], snapshot.vectors[rows], 0.0)
    lengths = np.sqrt(np.square(vectors).sum(axis=1))
    cosines = (vectors @ vectors.T) / np.maximum(np.outer(lengths, lengths), 1e-9)
    both = (lengths[:, None] > 0) & (lengths[None, :] > 0)
    mean: Floats = np.where(both, (by_category + np.clip(cosines, 0.0, 1.0)) / 2, by_category)
    return mean


def members_of(rows: Ints, snapshot: ItemSnapshot) -> Floats:
    """Which item is in which category, for the categories among them ``(d, categories)``."""
    starts = snapshot.category_offsets[rows]
    lengths = np.where(rows < 0, 0, snapshot.category_offsets[rows + 1] - starts)
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(rows)), lengths)
    flat = snapshot.categories[np.arange(len(owner)) + (starts - ends + lengths)[owner]]
    found, column = np.unique(flat, return_inverse=True)
    member = np.zeros((len(rows), len(found)))
    member[owner, column] = 1.0
    return member


def _unit(scores: Floats) -> Floats:
    spread = float(scores.max() - scores.min())
    return (scores - scores.min()) / spread if spread > 0 else np.zeros(len(scores))
