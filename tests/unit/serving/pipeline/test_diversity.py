"""Diversity against a plain implementation of its definition."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.control.flags import Diversity
from serving.items.item_snapshot import ItemSnapshot
from serving.pipeline.diversity import diversify
from tests.oracles import page_oracle
from tests.support.ranking_data import item, snapshot

CATEGORIES = ["category:a", "category:b", "category:c"]


def vector(angle: float) -> list[float]:
    return [math.cos(angle), math.sin(angle)]


SNAPSHOT = snapshot(
    [
        item(f"i{n}", CATEGORIES[n % 3 : n % 3 + 1 + n % 2], vector=vector(0.1 * n * n) if n % 4 else [])
        for n in range(12)
    ]
)

_rng = np.random.default_rng(11)
MANY = snapshot(
    [
        item(
            f"m{n}",
            [f"category:{c}" for c in _rng.choice(list("abcdefgh"), n % 4)],
            vector=_unit.tolist() if n % 5 else [],
        )
        for n, _unit in enumerate(v / np.linalg.norm(v) for v in _rng.normal(size=(60, 6)))
    ]
)
"""Some items have no category, a duplicate category, or no vector."""


def naive_similarity(held: ItemSnapshot, a: int, b: int) -> float:
    if a < 0 or b < 0:
        return 0.0
    spans = [
        held.categories[held.category_offsets[i] : held.category_offsets[i + 1]].tolist() for i in (a, b)
    ]
    common = len(set(spans[0]) & set(spans[1]))
    by_category = common / math.sqrt(len(spans[0]) * len(spans[1])) if spans[0] and spans[1] else 0.0
    va, vb = held.vectors[a].astype(float), held.vectors[b].astype(float)
    if not va.any() or not vb.any():
        return by_category
    return (by_category + max(float(va @ vb), 0.0)) / 2


def naive_mmr(order: list[int], scores: np.ndarray, numbers: np.ndarray, rules: Diversity) -> list[int]:
    slots = min(rules.slots, len(order))
    pool = order[: max(min(rules.depth, len(order)), slots)]
    low, high = min(scores[pool]), max(scores[pool])
    unit = {c: (scores[c] - low) / (high - low) if high > low else 0.0 for c in pool}
    picked: list[int] = []
    while len(picked) < slots:
        best = max(
            (c for c in pool if c not in picked),
            key=lambda c: (
                round(
                    rules.relevance * unit[c]
                    - (1 - rules.relevance)
                    * max((naive_similarity(SNAPSHOT, numbers[c], numbers[p]) for p in picked), default=0.0),
                    9,
                ),
                -pool.index(c),
            ),
        )
        picked.append(best)
    return picked + [c for c in order if c not in picked]


@given(
    st.permutations(range(10)),
    st.lists(st.integers(0, 20), min_size=10, max_size=10),
    st.lists(st.integers(-1, 11), min_size=10, max_size=10, unique=True),
    st.sampled_from([0.0, 0.31, 0.77, 0.95, 0.99]),
)
def test_it_is_maximal_marginal_relevance(
    order: list[int], raw: list[int], items: list[int], relevance: float
) -> None:
    scores, numbers = np.array(raw, float) ** 1.1, np.array(items, np.intp)
    rules = Diversity(relevance=relevance, slots=6, depth=8)
    found = diversify(np.array(order, np.intp), scores, numbers, SNAPSHOT, rules).tolist()
    wanted = naive_mmr(order, scores, numbers, rules)
    if found != wanted:  # only if the worth of two candidates differs by rounding
        unit = (scores - scores[order[:8]].min()) / max(np.ptp(scores[order[:8]]), 1e-9)
        place = next(i for i, (f, w) in enumerate(zip(found, wanted, strict=True)) if f != w)

        def worth(c: int) -> float:
            near = [naive_similarity(SNAPSHOT, numbers[c], numbers[p]) for p in wanted[:place]]
            return relevance * unit[c] - (1 - relevance) * max(near, default=0.0)

        assert worth(found[place]) == pytest.approx(worth(wanted[place]), abs=1e-6)
    assert sorted(found) == list(range(10))


@given(st.permutations(range(10)), st.integers(1, 30), st.integers(2, 30))
def test_relevance_alone_changes_nothing(order: list[int], slots: int, depth: int) -> None:
    rules = Diversity(relevance=1.0, slots=slots, depth=depth)
    numbers = np.arange(10)
    assert diversify(np.array(order), np.arange(10.0), numbers, SNAPSHOT, rules).tolist() == order


def test_similar_items_are_kept_apart() -> None:
    held = snapshot([item("a", ["category:x"]), item("b", ["category:x"]), item("c", ["category:y"])])
    scores = np.array([1.0, 0.99, 0.9])
    found = diversify(np.arange(3), scores, np.arange(3), held, Diversity(relevance=0.5, slots=3))
    assert found.tolist() == [0, 2, 1]


@given(st.permutations(range(10)), st.integers(1, 4))
def test_a_category_does_not_exceed_its_cap_while_others_can_be_had(order: list[int], cap: int) -> None:
    held = snapshot([item(f"i{n}", [f"category:{'abc'[n % 3]}"]) for n in range(10)])
    rules = Diversity(relevance=1.0, per_category=cap, slots=3 * cap if cap < 3 else 9, depth=10)
    found = diversify(np.array(order), np.linspace(1, 0, 10), np.arange(10), held, rules)
    counts = Counter(n % 3 for n in found[: min(rules.slots, 3 * cap)].tolist())
    assert max(counts.values()) <= max(cap, math.ceil(rules.slots / 3))
    assert sorted(found.tolist()) == list(range(10))


@given(
    st.integers(0, 10**6),
    st.integers(0, 40),
    st.builds(
        Diversity,
        relevance=st.sampled_from([0.0, 0.31, 0.77, 0.95, 1.0]),
        per_category=st.none() | st.integers(1, 4),
        slots=st.integers(1, 12),
        depth=st.integers(2, 40),
    ),
)
def test_it_gives_what_the_plain_formula_gives(seed: int, count: int, rules: Diversity) -> None:
    """Compare exactly if no choice depends on the last bits of a sum."""
    rng = np.random.default_rng(seed)
    order, numbers = rng.permutation(count), rng.permutation(len(MANY) + 1)[:count] - 1
    scores = rng.normal(size=count).round(1)
    wanted, narrowest = page_oracle.diversify(order, scores, numbers, MANY, rules)
    if 0 < narrowest < 1e-6:
        return
    assert diversify(order, scores, numbers, MANY, rules).tolist() == wanted.tolist()


def test_an_order_that_stays_is_the_array_that_was_given() -> None:
    order, scores = np.array([2, 0, 1]), np.array([0.5, 0.1, 1.0])
    assert diversify(order, scores, np.arange(3), SNAPSHOT, Diversity(relevance=0.99)) is order
    given = np.array([0, 1, 2])
    diversify(given, np.ones(3), np.array([0, 3, 1]), SNAPSHOT, Diversity(relevance=0.5))
    assert given.tolist() == [0, 1, 2]  # moves happen in a copy


@pytest.mark.parametrize(
    ("order", "numbers"),
    [([0, 1, 3], [0, 1, 2]), ([0, -1, 1], [0, 1, 2]), ([0, 1, 2], [0, 12, 1]), ([0, 1, 2], [0, -2, 1])],
)
def test_what_is_neither_a_candidate_nor_an_item_is_refused(order: list[int], numbers: list[int]) -> None:
    with pytest.raises(IndexError, match="an index is out of range"):
        diversify(np.array(order), np.ones(3), np.array(numbers), SNAPSHOT, Diversity(relevance=0.5))
    with pytest.raises(IndexError):
        diversify(np.arange(3), np.ones(3), np.zeros(0, np.intp), SNAPSHOT, Diversity(relevance=0.5))


def test_few_candidates_and_strangers_are_left_alone() -> None:
    rules = Diversity(relevance=0.5, per_category=1)
    for count in (0, 1):
        order = np.arange(count)
        assert diversify(order, np.ones(count), order, SNAPSHOT, rules).tolist() == order.tolist()
    strangers = np.full(4, -1)
    assert diversify(np.arange(4), np.arange(4)[::-1] * 1.0, strangers, SNAPSHOT, rules).tolist() == [
        0,
        1,
        2,
        3,
    ]
