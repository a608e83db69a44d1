"""The compiled loops that fill the matrix of signals, against plain numpy formulas on random shops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.items.item_attributes import Occurrences
from serving.scoring.signal_matrix import Candidates, Leaning, Taste, Trail, fill, read_ahead, together
from tests.oracles import matrix_oracle

NOW_MS = 1_700_000_000_000.0
seeds = st.integers(0, 2**32 - 1)


class Shop:
    """Arrays of a random shop: some items without values, some numbers unknown."""

    def __init__(self, seed: int, items: int, types: int, numerics: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.items, self.numerics = items, numerics
        size = types * 6
        lengths = rng.integers(0, 5, items) if size else np.zeros(items, np.intp)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)
        self.occurrences = Occurrences(
            types,
            rng.integers(0, max(types, 1), size),
            rng.random(size),
            offsets,
            rng.integers(0, max(size, 1), offsets[-1]),
        )
        alone = rng.normal(size=(items + 1, 5 + numerics))
        alone[rng.random(alone.shape) < 0.1] = np.nan
        alone[-1] = np.nan
        self.alone, self.share = alone, rng.random(items) + 1e-3
        near = rng.integers(0, 8, items)
        self.neighbours = np.concatenate(
            [np.zeros(0, np.intp), *(rng.permutation(items)[:n] for n in near.tolist())]
        )
        self.offsets = np.concatenate([[0], np.cumsum(np.minimum(near, items))]).astype(np.intp)
        self.counts = rng.integers(1, 9, len(self.neighbours)).astype(np.float64)
        self.sessions = rng.integers(1, 50, items + 1).astype(np.float64)

    def candidates(self, count: int) -> Candidates:
        """So many, each once, about a tenth of them unknown."""
        rows = self.rng.permutation(self.items)[:count]
        rows = np.where(self.rng.random(len(rows)) < 0.1, -1, rows)
        n = len(rows)
        return Candidates(
            rows, rows, self.alone, self.share, self.rng.random(n), -np.log2(np.arange(n) + 2.0)
        )

    def taste(self, known: bool) -> Taste:
        medians = np.where(self.rng.random(self.numerics) < 0.3, np.nan, self.rng.normal(size=self.numerics))
        values = self.values() if known else np.zeros(0, np.intp)
        return Taste(known, values, self.rng.normal(size=len(values)), medians)

    def leaning(self, known: bool) -> Leaning:
        values = self.values() if known else np.zeros(0, np.intp)
        return Leaning(known, values, self.rng.random(len(values)) * 5)

    def values(self) -> np.ndarray:
        size = len(self.occurrences.type_of)
        return self.rng.permutation(size)[: size // 3]

    def trail(self, touched: int, rows: np.ndarray) -> Trail:
        """Items touched, unknown ones and such of the future among them, each once."""
        seen = self.rng.permutation(self.items)[:touched]
        seen = np.where(self.rng.random(len(seen)) < 0.2, -1, seen)
        last = seen[:5]
        times = NOW_MS - self.rng.integers(-60_000, 7_200_000, len(seen))
        both = together(rows, last, self.offsets, self.neighbours, self.counts)
        return Trail(seen, times, both, np.where(last < 0, 0.0, self.sessions[last]), NOW_MS)


shops = st.builds(
    Shop, seeds, items=st.sampled_from([1, 3, 40, 2500]), types=st.integers(0, 5), numerics=st.integers(0, 4)
)
counts = st.sampled_from([0, 1, 2, 30, 2000])


@settings(max_examples=40, deadline=None)
@given(shops, counts, st.tuples(*[st.booleans()] * 3), st.integers(0, 20))
def test_the_matrix_is_the_plain_formulas(
    shop: Shop, count: int, known: tuple[bool, bool, bool], touched: int
) -> None:
    candidates = shop.candidates(count)
    tastes = shop.taste(known[0]), shop.taste(known[1])
    rest = shop.occurrences, tastes, shop.leaning(known[2]), shop.trail(touched, candidates.rows)
    found = fill(candidates, *rest)
    wanted = matrix_oracle.matrix(candidates, *rest)
    assert found.shape == wanted.shape
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(shops, counts, st.integers(0, 5))
def test_what_goes_together_is_what_the_rows_of_neighbours_say(shop: Shop, count: int, last: int) -> None:
    rows = shop.candidates(count).rows
    newest = np.where(
        shop.rng.random(min(last, shop.items)) < 0.2, -1, shop.rng.permutation(shop.items)[:last]
    )
    arrays = shop.offsets, shop.neighbours, shop.counts
    found = together(rows, newest, *arrays)
    np.testing.assert_array_equal(found, matrix_oracle.together(rows, newest, *arrays))


@settings(max_examples=20, deadline=None)
@given(shops, counts)
def test_what_is_read_ahead_is_what_will_be_read_of_known_items(shop: Shop, count: int) -> None:
    rows, items = shop.candidates(count).rows, shop.occurrences
    known = rows[rows >= 0]
    values = [v for r in known.tolist() for v in items.values[items.offsets[r] : items.offsets[r + 1]]]
    wanted = (shop.alone[known][:, [0, -1]].sum() + shop.share[known].sum()) + (
        items.type_of[values].sum() + items.share[values].sum() if values else 0.0
    )
    found = read_ahead(rows, shop.alone, shop.share, *items[1:])
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_numbers_that_fall_into_one_slot_are_told_apart() -> None:
    """Numbers far apart by powers of two are those that meet in a table of that size."""
    rows = np.arange(64) * 2**15
    offsets = np.zeros(int(rows[-1]) + 2, np.intp)
    offsets[1:] = 64
    counts = np.arange(64) + 1.0
    found = together(rows, np.array([0]), offsets, rows[::-1].copy(), counts)
    assert found[:, 0].tolist() == counts[::-1].tolist()


@pytest.mark.parametrize("known", [True, False])
def test_items_without_values_are_neutral_where_something_is_known(known: bool) -> None:
    shop = Shop(1, items=1, types=2, numerics=0)
    bare = shop.occurrences._replace(offsets=np.zeros(2, np.intp), values=np.zeros(0, np.intp))
    rows = np.zeros(1, np.intp)
    candidates = Candidates(rows, rows, shop.alone, shop.share, np.ones(1), -np.ones(1))
    rest = (shop.taste(known), shop.taste(known)), shop.leaning(known), shop.trail(1, rows)
    of_values = fill(candidates, bare, *rest)[0, 7:13]
    assert of_values.tolist() == [0.0] * 6 if known else np.isnan(of_values).all()
