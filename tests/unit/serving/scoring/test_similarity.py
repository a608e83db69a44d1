"""Similarity of items, against the plain formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scoring.similarity import breadth, items_of, similarity
from tests.oracles import page_oracle
from tests.support.ranking_data import item, snapshot

_rng = np.random.default_rng(3)
HELD = snapshot(
    [
        item(
            f"i{n}",
            [f"category:{c}" for c in _rng.choice(list("abcde"), n % 4)],
            vector=v.tolist() if n % 3 else [],
        )
        for n, v in enumerate(_rng.normal(size=(20, 5)))
    ]
)


def test_by_hand() -> None:
    held = snapshot(
        [
            item("a", ["category:x", "category:y"], vector=[1.0, 0.0]),
            item("b", ["category:x"], vector=[0.6, 0.8]),
            item("c", ["category:z"], vector=[-1.0, 0.0]),
            item("d", ["category:x"]),
            item("e", ["category:x", "category:x"]),
            item("f"),
        ]
    )
    items = items_of(held)
    half = 1 / math.sqrt(2)
    for a, b, expected in (
        (0, 0, 1.0),
        (0, 1, (half + 0.6) / 2),
        (0, 2, 0.0),  # opposite vectors are as dissimilar as orthogonal ones
        (0, 3, half),  # no vector: only categories count
        (3, 4, 1.0),  # a duplicate category counts once
        (0, 5, 0.0),
        (5, 5, 0.0),
    ):
        assert similarity(a, b, items) == pytest.approx(expected, abs=1e-7)
        assert similarity(b, a, items) == similarity(a, b, items)


def test_it_is_the_plain_formula() -> None:
    naive = page_oracle.similarity(np.arange(len(HELD)), HELD)
    items = items_of(HELD)
    found = [[similarity(a, b, items) for b in range(len(HELD))] for a in range(len(HELD))]
    np.testing.assert_allclose(found, naive, atol=1e-6)
    assert np.min(found) >= 0.0
    assert np.max(found) <= 1.0 + 1e-12


@given(st.lists(st.integers(0, 19), max_size=12))
def test_breadth_is_that_of_the_plain_formula(rows: list[int]) -> None:
    page = np.array(rows, np.intp)
    distinct, apart = breadth(page, items_of(HELD))
    assert distinct == int(page_oracle.members_of(page, HELD).any(axis=0).sum())
    pairs = np.triu_indices(len(rows), 1)
    assert apart == pytest.approx(float((1.0 - page_oracle.similarity(page, HELD))[pairs].sum()), abs=1e-5)
