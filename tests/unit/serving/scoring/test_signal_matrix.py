"""The signals, against plain NumPy formulas on random shops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.items.item_attributes import Attributes
from serving.items.item_neighbours import Neighbours
from serving.items.item_rows import ItemRows
from serving.items.item_snapshot import _read_ahead
from serving.scoring.signal import Asked, Leaning, Taste
from serving.scoring.signals import all_families, all_signals, session_affinity, taste
from tests.oracles import matrix_oracle

NOW_MS = 1_700_000_000_000.0
seeds = st.integers(0, 2**32 - 1)


class Shop:
    """Make the arrays of a random shop, some items without values, some numbers unknown."""

    def __init__(self, seed: int, items: int, types: int, numerics: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.items, self.numerics = items, numerics
        size = types * 6
        lengths = rng.integers(0, 5, items) if size else np.zeros(items, np.intp)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)
        self.attributes = Attributes(
            {},
            tuple(f"t{n}" for n in range(types)),
            rng.integers(0, max(types, 1), size),
            rng.random(size),
            offsets,
            _distinct(rng, size, lengths),
        )
        alone = rng.normal(size=(items + 1, 8 + numerics))
        alone[rng.random(alone.shape) < 0.1] = np.nan
        alone[-1] = np.nan
        self.alone, self.share = alone, rng.random(items) + 1e-3
        self.neighbours, self.steps = self.pairs(), self.pairs()

    def pairs(self) -> Neighbours:
        """A few neighbours of each item."""
        rng, items = self.rng, self.items
        near = rng.integers(0, 8, items)
        others = np.concatenate([np.zeros(0, np.intp), *(rng.permutation(items)[:n] for n in near.tolist())])
        return Neighbours(
            np.concatenate([[0], np.cumsum(np.minimum(near, items))]).astype(np.intp),
            others,
            rng.integers(1, 9, len(others)).astype(np.float64),
            np.append(rng.integers(1, 50, items), 0).astype(np.float64),
        )

    def candidates(self, count: int) -> np.ndarray:
        """Draw `count` distinct item numbers, about a tenth of them unknown."""
        rows = self.rng.permutation(self.items)[:count]
        return np.where(self.rng.random(len(rows)) < 0.1, -1, rows)

    def asked(self, count: int, known: tuple[bool, bool, bool], touched: int) -> Asked:
        """Make a request whose session also touched unknown items, and some in the future."""
        rows = self.candidates(count)
        seen = self.rng.permutation(self.items)[:touched]
        seen = np.where(self.rng.random(len(seen)) < 0.2, -1, seen)
        last = seen[:5]
        gathered = ItemRows(
            rows=rows,
            places=rows,
            attributes=self.attributes,
            alone=self.alone,
            share=self.share,
            numeric_names=tuple(f"n{n}" for n in range(self.numerics)),
            touched=seen,
            together=self.neighbours.together(rows, last),
            sessions=self.neighbours.totals[last],
            steps=lambda: (self.steps.together(rows, last), self.steps.totals[last]),
            last_numerics=self.alone[seen[0] if len(seen) else -1, 8:],
        )
        times = (NOW_MS - self.rng.integers(-60_000, 7_200_000, len(seen))).astype(np.float64)
        base, (user, segment, session) = self.rng.random(len(rows)), known
        tastes = self.taste(user), self.taste(segment), self.leaning(session)
        return Asked(base, gathered, *tastes, times, NOW_MS)

    def taste(self, known: bool) -> Taste:
        medians = np.where(self.rng.random(self.numerics) < 0.3, np.nan, self.rng.normal(size=self.numerics))
        values = self.values() if known else np.zeros(0, np.intp)
        return Taste(known, values, self.rng.normal(size=len(values)), medians)

    def leaning(self, known: bool) -> Leaning:
        values = self.values() if known else np.zeros(0, np.intp)
        return Leaning(known, values, self.rng.random(len(values)) * 5)

    def values(self) -> np.ndarray:
        size = len(self.attributes.type_of)
        return self.rng.permutation(size)[: size // 3]


def _distinct(rng: np.random.Generator, size: int, lengths: np.ndarray) -> np.ndarray:
    """Draw the value numbers of all items, without duplicates in an item."""
    return np.concatenate([np.zeros(0, np.intp), *(rng.permutation(size)[:n] for n in lengths.tolist())])


shops = st.builds(
    Shop, seeds, items=st.sampled_from([1, 3, 40, 2500]), types=st.integers(0, 5), numerics=st.integers(0, 4)
)
counts = st.sampled_from([0, 1, 2, 30, 2000])


@settings(max_examples=40, deadline=None)
@given(shops, counts, st.tuples(*[st.booleans()] * 3), st.integers(0, 20))
def test_each_signal_is_the_plain_formula(
    shop: Shop, count: int, known: tuple[bool, bool, bool], touched: int
) -> None:
    asked = shop.asked(count, known, touched)
    items = asked.rows.rows >= 0
    wanted = matrix_oracle.matrix(asked)
    assert set(wanted) == set(all_signals()), (
        "add a line for the new signal to tests/oracles/matrix_oracle.py"
    )
    for family in all_families():
        expected = np.concatenate([wanted[signal.name] for signal in family.signals])
        found = np.full(expected.shape, 1e99)
        family.fill(found, asked)
        known_items = items if family.of_items else np.ones_like(items)
        np.testing.assert_allclose(found[:, known_items], expected[:, known_items], rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(shops, counts, st.integers(0, 5))
def test_what_goes_together_is_what_the_rows_of_neighbours_say(shop: Shop, count: int, last: int) -> None:
    rows = shop.candidates(count)
    newest = np.where(
        shop.rng.random(min(last, shop.items)) < 0.2, -1, shop.rng.permutation(shop.items)[:last]
    )
    found = shop.neighbours.together(rows, newest)
    np.testing.assert_array_equal(found, matrix_oracle.together(rows, newest, shop.neighbours))


@settings(max_examples=20, deadline=None)
@given(shops, counts)
def test_what_is_read_ahead_is_what_will_be_read_of_known_items(shop: Shop, count: int) -> None:
    rows, items = shop.candidates(count), shop.attributes.occurrences
    known = rows[rows >= 0]
    values = [v for r in known.tolist() for v in items.values[items.offsets[r] : items.offsets[r + 1]]]
    wanted = (shop.alone[known][:, [0, -1]].sum() + shop.share[known].sum()) + (
        items.type_of[values].sum() + items.share[values].sum() if values else 0.0
    )
    found = _read_ahead(rows, shop.alone, shop.share, *items[1:])
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("known", [True, False])
def test_items_without_values_are_neutral_where_something_is_known(known: bool) -> None:
    shop = Shop(1, items=1, types=2, numerics=0)
    shop.attributes = dataclasses.replace(
        shop.attributes, offsets=np.zeros(2, np.intp), values=np.zeros(0, np.intp)
    )
    asked = shop.asked(1, (known, known, known), 1)
    for fill, columns in ((taste.fill, 4), (session_affinity.fill, 2)):
        found = np.full((columns, 1), 1e99)
        fill(found, asked)
        assert found[:, 0].tolist() == [0.0] * columns if known else np.isnan(found).all()
