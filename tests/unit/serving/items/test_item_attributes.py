"""Attribute values as arrays, against plain loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.items.item_attributes import MAX_TYPES, as_lists, attributes_of

keys = st.builds("{}:{}".format, st.sampled_from(["genre", "tag", "maker"]), st.integers(0, 6))
items = st.lists(st.lists(keys, unique=True, max_size=6), max_size=12)


@given(items, st.data())
def test_occurrences_are_the_values_of_the_items_asked_for(
    rows: list[list[str]], data: st.DataObject
) -> None:
    attributes = attributes_of(as_lists(rows))
    asked = data.draw(st.lists(st.integers(-1, len(rows) - 1), max_size=10))
    places, lengths = attributes.spans.of(np.array(asked, np.intp))
    names = {number: key for key, number in attributes.ids.items()}
    found = [names[v] for v in attributes.occurrences.values[places].tolist()]
    assert found == [key for row in asked if row >= 0 for key in rows[row]]
    assert lengths.tolist() == [len(rows[row]) if row >= 0 else 0 for row in asked]
    assert attributes.occurrences.types == len(attributes.types)


@given(items)
def test_shares_are_those_of_each_type(rows: list[list[str]]) -> None:
    attributes = attributes_of(as_lists(rows))
    counts = Counter(key for row in rows for key in row)
    assert set(attributes.ids) == set(counts)
    assert list(attributes.types) == sorted({key.partition(":")[0] for key in counts})
    for key, number in attributes.ids.items():
        kind = key.partition(":")[0]
        total = sum(c for k, c in counts.items() if k.partition(":")[0] == kind)
        assert attributes.share[number] == counts[key] / total
        assert attributes.types[attributes.type_of[number]] == kind


def test_keys_are_numbered_and_strange_ones_left_out() -> None:
    attributes = attributes_of(as_lists([["genre:a", "genre:b"]]))
    numbers, places = attributes.numbers(["odd", "genre:b", "genre:never"])
    assert (numbers.tolist(), places.tolist()) == ([attributes.ids["genre:b"]], [1])


def test_only_the_types_with_most_occurrences_are_kept() -> None:
    rows = [[f"t{i:02d}:v" for i in range(MAX_TYPES + 5)], [f"t{i:02d}:v" for i in range(5, MAX_TYPES + 5)]]
    attributes = attributes_of(as_lists(rows))
    assert len(attributes.types) == MAX_TYPES
    assert "t00" not in attributes.types
    assert "t00:v" not in attributes.ids
    assert np.diff(attributes.offsets).tolist() == [MAX_TYPES, MAX_TYPES]


def test_no_items_and_no_values() -> None:
    assert attributes_of(as_lists([])).types == ()
    empty = attributes_of(as_lists([[], []]))
    places, lengths = empty.spans.of(np.array([0, 1, -1]))
    assert len(places) == 0
    assert lengths.tolist() == [0, 0, 0]
