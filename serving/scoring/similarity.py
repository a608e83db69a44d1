"""Similarity of items, and the diversification and page figures based on it.

The similarity of two items is the mean of the cosines of their categories and of their vectors, within
``[0, 1]``. If an item has no vector, only categories count. An unknown item is similar to no other.
Everything is in one file, because the compilation cache checks only a function's own file for changes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from feature_repo.arrays import Bools, Float32s, Floats, Ints
from serving.items.item_snapshot import ItemSnapshot
from serving.scoring.compiled import compiled


class Items(NamedTuple):
    """The features of ``n`` items that similarity is computed from.

    Attributes:
        offsets: ``n + 1`` bounds into `categories`.
        categories: category numbers of all items, one item after the other.
        vectors, lengths: vectors ``(n, d)`` and their lengths; 0 without a vector.
    """

    offsets: Ints
    categories: Ints
    vectors: Float32s
    lengths: Float32s


class Wanted(NamedTuple):
    """Parameters of diversification.

    Attributes:
        slots: number of slots to diversify; at most `depth`.
        depth: number of top candidates that may fill them.
        relevance: λ, the weight of the score.
        most: maximum number of items per category, while other candidates remain; 0 for no limit.
    """

    slots: int
    depth: int
    relevance: float
    most: int


def items_of(snapshot: ItemSnapshot) -> Items:
    """Return the arrays of a snapshot that similarity needs."""
    return Items(snapshot.category_offsets, snapshot.categories, snapshot.vectors, snapshot.vector_lengths)


def similarity(a: int, b: int, items: Items) -> float:
    """Return the similarity of two known items."""
    return _alike(a, b, *items)


@compiled
def _alike(a: int, b: int, offsets: Ints, categories: Ints, vectors: Float32s, lengths: Float32s) -> float:
    common = 0
    size_a, size_b = 0, 0
    for i in range(offsets[a], offsets[a + 1]):
        if not _has(categories, offsets[a], i, categories[i]):  # skip duplicates
            size_a += 1
            common += _has(categories, offsets[b], offsets[b + 1], categories[i])
    for i in range(offsets[b], offsets[b + 1]):
        size_b += not _has(categories, offsets[b], i, categories[i])
    by_category: float = common / max(math.sqrt(size_a) * math.sqrt(size_b), 1.0)
    if not (lengths[a] > 0.0 and lengths[b] > 0.0):
        return by_category
    dot = 0.0
    for i in range(vectors.shape[1]):
        dot += np.float64(vectors[a, i]) * vectors[b, i]
    cosine: float = dot / max(np.float64(lengths[a]) * lengths[b], 1e-9)
    return (by_category + min(max(cosine, 0.0), 1.0)) / 2.0


@compiled
def _has(categories: Ints, start: int, stop: int, wanted: int) -> bool:
    """Whether a category is in ``categories[start:stop]``."""
    at = start
    while at < stop and categories[at] != wanted:
        at += 1
    return at < stop


def diversified(order: Ints, scores: Floats, numbers: Ints, wanted: Wanted, items: Items) -> int:
    """Move the picks for the first slots to the front of an order; the rest of the pool keeps its order.

    Args:
        order: candidates, best first; changed in place.
        scores, numbers: score and item number (-1: unknown) by candidate.

    Returns:
        1 if anything moved, else 0; -1 if `order` or `numbers` is out of range, and nothing was changed.
    """
    depth = wanted.depth
    whole, flags = np.zeros((4, depth), np.int64), np.zeros((2, depth), np.bool_)
    return _diversify(
        order,
        scores,
        numbers,
        wanted.slots,
        wanted.relevance,
        wanted.most,
        whole,
        flags,
        np.empty((2, depth)),
        *items,
    )


@compiled
def _diversify(
    order: Ints,
    scores: Floats,
    numbers: Ints,
    slots: int,
    relevance: float,
    most: int,
    whole: Ints,
    flags: Bools,
    decimal: Floats,
    offsets: Ints,
    categories: Ints,
    vectors: Float32s,
    lengths: Float32s,
) -> int:
    """Compiled part of `diversified`; `whole`, `flags` and `decimal` are scratch space by position."""
    rows, seen, picked, pool = whole[0], whole[1], whole[2, :slots], whole[3]
    taken, full, gain, worth = flags[0], flags[1], decimal[0], decimal[1]
    if not _weigh(rows, gain, worth, order, scores, numbers, len(offsets) - 1, relevance):
        return -1
    loss = 1.0 - relevance
    _pick(picked, taken, full, most, loss, rows, gain, worth, seen, offsets, categories, vectors, lengths)
    for place in range(len(pool)):
        pool[place] = order[place]
    return 1 if _place(order, pool, picked, taken) else 0


@compiled
def _weigh(
    rows: Ints,
    gain: Floats,
    worth: Floats,
    order: Ints,
    scores: Floats,
    numbers: Ints,
    known: int,
    relevance: float,
) -> bool:
    """Fill item number and gain of each position of the pool; return False if an index is out of range."""
    count = min(len(scores), len(numbers))
    low, high = np.inf, -np.inf
    for place in range(len(rows)):
        candidate = order[place]
        if not 0 <= candidate < count or not -1 <= numbers[candidate] < known:
            return False
        rows[place], gain[place] = numbers[candidate], scores[candidate]
        low, high = min(low, gain[place]), max(high, gain[place])
    spread = high - low
    for place in range(len(rows)):
        gain[place] = relevance * ((gain[place] - low) / spread) if spread > 0.0 else 0.0
        worth[place] = gain[place]
    return True


@compiled
def _pick(
    picked: Ints,
    taken: Bools,
    full: Bools,
    most: int,
    loss: float,
    rows: Ints,
    gain: Floats,
    worth: Floats,
    seen: Ints,
    offsets: Ints,
    categories: Ints,
    vectors: Float32s,
    lengths: Float32s,
) -> None:
    """Fill `picked` and `taken`: each slot takes the pool position with the highest worth, the first of ties.

    The worth of a position only falls. A position whose last known worth is not above the best so far need
    not be compared with the latest picks.

    Args:
        taken, full: False, by position.
        loss: 1 − λ, the penalty for a similarity of 1.
        rows: item number of each position, or -1 if unknown.
        gain: λ · score.
        worth: `gain` minus the penalty for the picks compared so far.
        seen: number of picks compared so far.
    """
    for slot in range(len(picked)):
        others_left = False
        for i in range(len(rows)):
            others_left = others_left or not (taken[i] or full[i])
        best = -1
        for i in range(len(rows)):
            if taken[i] or (others_left and full[i]):
                continue
            while seen[i] < slot and (best < 0 or worth[i] > worth[best]):
                other = rows[picked[seen[i]]]
                if rows[i] >= 0 and other >= 0:
                    alike = _alike(other, rows[i], offsets, categories, vectors, lengths)
                    worth[i] = min(worth[i], gain[i] - loss * alike)
                seen[i] += 1
            if best < 0 or worth[i] > worth[best]:
                best = i
        picked[slot], taken[best] = best, True
        if most > 0 and rows[best] >= 0:
            _mark(full, most, picked, slot, rows, offsets, categories)


@compiled
def _mark(
    full: Bools, most: int, picked: Ints, slot: int, rows: Ints, offsets: Ints, categories: Ints
) -> None:
    """Mark the positions of every category that has reached its maximum with the item in a slot."""
    for i in range(offsets[rows[picked[slot]]], offsets[rows[picked[slot]] + 1]):
        held = 0
        for place in range(slot + 1):
            row = rows[picked[place]]
            held += row >= 0 and _has(categories, offsets[row], offsets[row + 1], categories[i])
        if held < most:
            continue
        for place in range(len(rows)):
            row = rows[place]
            if row >= 0 and _has(categories, offsets[row], offsets[row + 1], categories[i]):
                full[place] = True


@compiled
def _place(order: Ints, pool: Ints, picked: Ints, taken: Bools) -> bool:
    """Write the picks to the front of an order, the rest of the pool behind them; whether any moved."""
    at, moved = len(picked), False
    for slot in range(len(picked)):
        order[slot] = pool[picked[slot]]
        moved = moved or picked[slot] != slot
    for place in range(len(pool)):
        if not taken[place]:
            order[at] = pool[place]
            at += 1
    return moved


def breadth(rows: Ints, items: Items) -> tuple[int, float]:
    """Return the number of categories of known items, and the sum of ``1 − similarity`` over their pairs.

    Not compiled: it runs only on a sample of answers, after they were sent.
    """
    held = [set(items.categories[items.offsets[row] : items.offsets[row + 1]].tolist()) for row in rows]
    every = sorted(set[int]().union(*held))
    member = np.array([[category in of for category in every] for of in held], float).reshape(
        len(rows), len(every)
    )
    sizes, vectors = np.sqrt(member.sum(axis=1)), items.vectors[rows].astype(float)
    lengths = items.lengths[rows].astype(float)
    alike = member @ member.T / np.maximum(np.outer(sizes, sizes), 1.0)
    cosine = vectors @ vectors.T / np.maximum(np.outer(lengths, lengths), 1e-9)
    both = np.outer(lengths > 0.0, lengths > 0.0)
    alike = np.where(both, (alike + np.clip(cosine, 0.0, 1.0)) / 2.0, alike)
    return len(every), float(np.triu(1.0 - alike, 1).sum())
