"""The formulas of the page stages in plain NumPy, which the compiled loops must match."""

from __future__ import annotations

import hashlib
from math import comb

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.control.flags import Cap, Diversity, Exploration
from serving.items.item_snapshot import ItemSnapshot
from serving.pipeline.exploration import _window
from serving.scoring.base_order import BaseOrder


def capped(order: Ints, base: BaseOrder, cap: Cap) -> Ints:
    """Apply `serving.pipeline.cap.capped`: clip the wanted positions to half windows and sort."""
    n = len(order)
    if n == 0 or (cap.positions is None and cap.share is None):
        return order
    place = np.arange(n, dtype=np.float64)
    low, high = np.zeros(n), np.full(n, n - 1.0)
    if cap.positions is not None:
        low = np.maximum(low, place - cap.positions / 2)
        high = np.minimum(high, place + cap.positions / 2)
    if cap.share is not None:
        falls = base.scores[base.order]
        half = cap.share * (falls[0] - falls[-1]) / 2
        low = np.maximum(low, np.searchsorted(-falls, -(falls + half), side="left"))
        high = np.minimum(high, np.searchsorted(-falls, -(falls - half), side="right") - 1)
    home = base.positions[order]
    cut = np.minimum(np.maximum(place, low[home]), high[home])
    return order[cut.argsort(kind="stable")]


def similarity(rows: Ints, snapshot: ItemSnapshot) -> Floats:
    """Compute the similarity of all pairs of items ``(d, d)``; row -1 is an unknown item."""
    member = members_of(rows, snapshot)
    sizes = np.sqrt(member.sum(axis=1))
    by_category = member @ member.T / np.maximum(np.outer(sizes, sizes), 1.0)
    vectors, lengths = snapshot.vectors[rows], snapshot.vector_lengths[rows]
    vectors[rows < 0] = lengths[rows < 0] = 0.0
    known = lengths > 0
    cosines = vectors @ vectors.T / np.maximum(np.outer(lengths, lengths), np.float32(1e-9))
    mean = (by_category + np.clip(cosines, 0.0, 1.0)) / 2.0
    return np.where(np.outer(known, known), mean, by_category)


def members_of(rows: Ints, snapshot: ItemSnapshot) -> Floats:
    """Return which item is in which category ``(d, categories)``."""
    member = np.zeros((len(rows), len(snapshot.category_names)))
    for place, row in enumerate(rows.tolist()):
        if row >= 0:
            span = slice(snapshot.category_offsets[row], snapshot.category_offsets[row + 1])
            member[place, snapshot.categories[span]] = 1.0
    return member


def diversify(
    order: Ints, scores: Floats, numbers: Ints, snapshot: ItemSnapshot, rules: Diversity
) -> tuple[Ints, float]:
    """Apply `serving.pipeline.diversity.diversify`; also return the margin of its closest choice."""
    slots = min(rules.slots, len(order))
    depth = max(min(rules.depth, len(order)), slots)
    if not rules.active or slots < 2:
        return order, np.inf
    pool = order[:depth]
    spread = float(np.ptp(scores[pool]))
    unit = (scores[pool] - scores[pool].min()) / spread if spread > 0 else np.zeros(depth)
    gain, rows = rules.relevance * unit, numbers[pool]
    member, penalty = members_of(rows, snapshot), similarity(rows, snapshot) * (1.0 - rules.relevance)
    nearest, picked, narrowest = np.zeros(depth), list[int](), np.inf
    for _ in range(slots):
        value = gain - nearest
        if rules.per_category is not None:
            full = (member @ (member[picked].sum(axis=0) >= rules.per_category)) > 0
            if (value[~full] > -np.inf).any():
                value[full] = -np.inf
        best = int(value.argmax())
        others = np.delete(value, best)
        narrowest = min(narrowest, float(value[best] - others.max()))
        picked.append(best)
        gain[best] = -np.inf
        nearest = np.maximum(nearest, penalty[best])
    left = np.ones(depth, bool)
    left[picked] = False
    return np.concatenate([pool[picked], pool[left], order[depth:]]), narrowest


def uniform(request_id: str, count: int) -> Floats:
    """Return numbers in ``[0, 1)``: 53 bits each of eight bytes of SHAKE-128, little-endian."""
    drawn = hashlib.shake_128(request_id.encode()).digest(8 * count)
    numbers = [int.from_bytes(drawn[at : at + 8], "little") for at in range(0, len(drawn), 8)]
    return np.array([(number // 2**11) / 2**53 for number in numbers])


def chances(m: int, share: float) -> tuple[Floats, Floats]:
    """Apply `serving.pipeline.draws.chances` in integers."""
    low = int(share * m)
    mixture = ((low, low + 1 - share * m), (low + 1, share * m - low))

    def standing(rank: int, slot: int, k: int) -> float:
        before = slot - rank
        if k > m or not 0 <= before <= k:
            return 0.0
        return comb(slot, before) * comb(m - 1 - slot, k - before) / comb(m, k)

    table = [[sum(c * standing(rank, slot, k) for k, c in mixture) for slot in range(m)] for rank in range(m)]
    return np.array(table), np.array([sum(c for k, c in mixture if rank >= m - k) for rank in range(m)])


def explore(
    order: Ints, request_id: str, rules: Exploration, limit: int | None = None
) -> tuple[Ints, Floats, Ints]:
    """Apply `serving.pipeline.exploration.explore` by sorting: order, propensities, slots."""
    n = len(order)
    m = _window(n, rules, limit)
    propensities = np.ones(int(order.max()) + 1 if n else 0)
    if m == 0:
        return order, propensities, np.zeros(0, np.intp)
    draw = uniform(request_id, 1 + n)
    expected = rules.share * m
    k = int(expected) + int(draw[0] < expected - int(expected))
    explores = np.zeros(m, bool)
    explores[draw[1 : 1 + m].argsort(kind="stable")[:k]] = True
    slots, kept = explores.nonzero()[0], (~explores).nonzero()[0]
    drawn = draw[1 + m :].argsort(kind="stable")[:k]
    pool, left = order[m:], np.ones(n - m, bool)
    chosen = pool[drawn]
    left[drawn] = False
    head = np.empty(m, np.intp)
    head[slots], head[kept] = chosen, order[: m - k]
    standing, behind = chances(m, rules.share)
    propensities[pool] = 1.0 - expected / (n - m)
    propensities[order[:m]] = behind
    propensities[order[: m - k]] = standing[np.arange(m - k), kept]
    propensities[chosen] = expected / m / (n - m)
    return np.concatenate([head, order[m - k : m], pool[left]]), propensities, slots
