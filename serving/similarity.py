"""How alike items are, and what is picked or measured by that.

Two items are as alike as the mean of the cosine of their categories and that of their vectors, within
``[0, 1]``; where one has no vector categories alone count, and an unknown item is like no other.
All in one file: machine code that is kept is made anew only when its own file changes.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from serving.attributes import Bools, Floats, Ints
from serving.compiled import Plain, compiled
from serving.snapshot import ItemSnapshot

Float32s: TypeAlias = npt.NDArray[np.float32]


class Items(NamedTuple):
    """What tells how alike ``n`` items are.

    Attributes:
        offsets: ``n + 1`` bounds into `categories`.
        categories: category numbers of item after item.
        vectors, lengths: ``(n, d)`` and their lengths, 0 where there is none.
    """

    offsets: Ints
    categories: Ints
    vectors: Float32s
    lengths: Float32s


class Wanted(NamedTuple):
    """How a page is to be made diverse.

    Attributes:
        slots: that are filled anew; at most `depth`.
        depth: candidates, the best, that may fill them.
        relevance: λ, the weight of the score.
        most: items of one category before others of it are passed over, as long as there are others; 0: any.
    """

    slots: int
    depth: int
    relevance: float
    most: int


class _Race(NamedTuple):
    """The pool, by place.

    Attributes:
        loss: 1 − λ, what a place loses to a similarity of 1.
        rows: item numbers, each -1 (unknown) or that of an item.
        gain: λ · score.
        worth: `gain` less the loss to those taken that it was compared with.
        seen: how many of those taken that are.
        picked: places taken, in the order of the slots.
    """

    loss: float
    rows: Ints
    gain: Floats
    worth: Floats
    seen: Ints
    picked: Ints


def items_of(snapshot: ItemSnapshot) -> Items:
    """What of a snapshot tells how alike its items are."""
    return Items(snapshot.category_offsets, snapshot.categories, snapshot.vectors, snapshot.vector_lengths)


@compiled
def similarity(a: int, b: int, items: Items) -> float:
    """Similarity of two known items."""
    common = 0
    size_a, size_b = 0, 0
    for i in range(items.offsets[a], items.offsets[a + 1]):
        if not _has(items.categories, items.offsets[a], i, items.categories[i]):  # else it stands there twice
            size_a += 1
            common += _has(items.categories, items.offsets[b], items.offsets[b + 1], items.categories[i])
    for i in range(items.offsets[b], items.offsets[b + 1]):
        size_b += not _has(items.categories, items.offsets[b], i, items.categories[i])
    by_category: float = common / max(math.sqrt(size_a) * math.sqrt(size_b), 1.0)
    if not (items.lengths[a] > 0.0 and items.lengths[b] > 0.0):
        return by_category
    dot = 0.0
    for i in range(items.vectors.shape[1]):
        dot += np.float64(items.vectors[a, i]) * items.vectors[b, i]
    cosine: float = dot / max(np.float64(items.lengths[a]) * items.lengths[b], 1e-9)
    return (by_category + min(max(cosine, 0.0), 1.0)) / 2.0


@compiled
def _has(categories: Ints, start: int, stop: int, wanted: int) -> bool:
    """Whether a category is among those from `start` to `stop`."""
    at = start
    while at < stop and categories[at] != wanted:
        at += 1
    return at < stop


@compiled
def diversified(order: Ints, scores: Floats, numbers: Ints, of_wanted: Plain, of_items: Plain) -> int:
    """Put what takes the first slots to the front of an order, the rest of the pool behind it as it stood.

    Args:
        order: candidates, best first; changed in place.
        scores, numbers: score and item number (-1: unknown) by candidate.
        of_wanted, of_items: `Wanted` and `Items` as plain tuples.

    Returns:
        whether anything moved; -1 where `order` or `numbers` hold what there is not: nothing is touched then.
    """
    wanted, items = Wanted(*of_wanted), Items(*of_items)
    depth, slots = wanted.depth, wanted.slots
    known, count = len(items.offsets) - 1, min(len(scores), len(numbers))
    pool, rows, gain = order[:depth].copy(), np.empty(depth, np.int64), np.empty(depth)
    low, high = np.inf, -np.inf
    for place in range(depth):
        candidate = pool[place]
        if not 0 <= candidate < count or not -1 <= numbers[candidate] < known:
            return -1
        rows[place], gain[place] = numbers[candidate], scores[candidate]
        low, high = min(low, gain[place]), max(high, gain[place])
    spread = high - low
    for place in range(depth):
        gain[place] = wanted.relevance * ((gain[place] - low) / spread) if spread > 0.0 else 0.0
    seen, picked = np.zeros(depth, np.int64), np.empty(slots, np.int64)
    _pick(wanted.most, _Race(1.0 - wanted.relevance, rows, gain, gain.copy(), seen, picked), items)
    taken, at, moved = np.zeros(depth, np.bool_), slots, 0
    for slot in range(slots):
        order[slot], taken[picked[slot]] = pool[picked[slot]], True
        moved |= picked[slot] != slot
    for place in range(depth):
        if not taken[place]:
            order[at] = pool[place]
            at += 1
    return moved


@compiled
def _pick(most: int, race: _Race, items: Items) -> None:
    """Fill `picked`: each slot takes the place worth most, the first of equals.

    What a place is worth only falls, so one that was worth no more than the best so far, when it was last
    looked at, need not be compared with what was taken since.
    """
    count = len(race.rows)
    full, taken = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for slot in range(len(race.picked)):
        others_left = False
        for i in range(count):
            others_left = others_left or not (taken[i] or full[i])
        best, worth = -1, -np.inf
        for i in range(count):
            if taken[i] or (others_left and full[i]) or (best >= 0 and not race.worth[i] > worth):
                continue
            _compare(i, slot, worth, race, items)
            if best < 0 or race.worth[i] > worth:
                best, worth = i, race.worth[i]
        race.picked[slot], taken[best] = best, True
        if most > 0 and race.rows[best] >= 0:
            _mark(slot, most, full, race, items)


@compiled
def _compare(place: int, slot: int, best: float, race: _Race, items: Items) -> None:
    """Compare a place with what was taken since it was looked at, while it is worth more than the best."""
    row = race.rows[place]
    while race.seen[place] < slot and race.worth[place] > best:
        other = race.rows[race.picked[race.seen[place]]]
        if row >= 0 and other >= 0:
            worth = race.gain[place] - race.loss * similarity(other, row, items)
            race.worth[place] = min(race.worth[place], worth)
        race.seen[place] += 1


@compiled
def _mark(slot: int, most: int, full: Bools, race: _Race, items: Items) -> None:
    """Mark as full what has a category of which the item in a slot is the last to be had."""
    offsets, categories, rows = items.offsets, items.categories, race.rows
    taken = rows[race.picked[slot]]
    for i in range(offsets[taken], offsets[taken + 1]):
        held = 0
        for place in race.picked[: slot + 1]:
            row = rows[place]
            held += row >= 0 and _has(categories, offsets[row], offsets[row + 1], categories[i])
        if held < most:
            continue
        for place in range(len(rows)):
            row = rows[place]
            if row >= 0 and _has(categories, offsets[row], offsets[row + 1], categories[i]):
                full[place] = True


def breadth(rows: Ints, of_items: Plain) -> tuple[int, float]:
    """How many categories some known items have, and the sum of ``1 − similarity`` over their pairs.

    Not compiled: it measures a few answers, after they were sent.
    """
    items = Items(*of_items)
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
