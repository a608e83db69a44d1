"""Item numbers by id: a table of hashes against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.items import item_index
from serving.items.item_index import ItemIndex, entered, found

IDS = st.text(max_size=5)


@given(st.lists(IDS, unique=True, max_size=200), st.lists(IDS, max_size=60))
def test_it_is_a_dictionary(known: list[str], asked: list[str]) -> None:
    index = {item_id: number for number, item_id in enumerate(known)}
    asked += known[:20]
    numbers = ItemIndex(index).numbers(asked)
    assert numbers.dtype == np.intp
    assert numbers.tolist() == [index.get(item_id, -1) for item_id in asked]


@given(st.lists(st.integers(-6, 6), unique=True, max_size=8), st.lists(st.integers(-9, 9), max_size=20))
def test_neighbours_in_the_table_are_told_apart(hashes: list[int], asked: list[int]) -> None:
    """Sixteen slots: such small hashes collide, also across both ends of the table."""
    keys, numbers = np.zeros(16, np.int64), np.full(16, -1, np.int64)
    values = np.arange(len(hashes)) + 10
    assert entered(np.array(hashes, np.int64), values, keys, numbers)
    wanted = dict(zip(hashes, values.tolist(), strict=True))
    assert found(np.array(asked, np.int64), keys, numbers).tolist() == [wanted.get(h, -1) for h in asked]


def test_items_whose_hashes_are_the_same_are_looked_up_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_index, "_hashes", lambda ids: np.array([len(i) for i in ids], np.int64))
    index = {"a": 0, "bb": 1, "c": 2}
    assert ItemIndex(index).numbers(["c", "bb", "a", "d"]).tolist() == [2, 1, 0, -1]


def test_a_full_catalogue_leaves_half_the_table_free() -> None:
    for count in (0, 1, 2, 3, 4, 7, 8, 1000):
        held = ItemIndex({str(n): n for n in range(count)})
        assert held.numbers([str(count)]).tolist() == [-1]
        assert len(held._numbers) >= 2 * count + 1
