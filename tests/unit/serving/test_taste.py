"""What is kept of a profile: the same as reckoned anew, and no longer than the profile itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.attributes import as_lists, attributes_of
from serving.taste import KeptTastes, Taste, taste_of
from tests.ranking_data import profile

ATTRIBUTES = attributes_of(as_lists([["genre:a", "genre:b"], ["tag:x"]]))
NAMES = ("price", "year")


def user(clicks: float = 2.0) -> dict[str, Any]:
    return profile({"genre:b": (clicks, 1.0), "genre:never": (9.0, 1.0)}, medians={"year": 1999.0})


def same(a: Taste, b: Taste) -> bool:
    return (
        a.values.tolist() == b.values.tolist()
        and np.array_equal(a.odds, b.odds)  # type: ignore[arg-type]
        and np.array_equal(a.medians, b.medians, equal_nan=True)  # type: ignore[arg-type]
    )


def test_a_taste_is_what_is_clicked_beyond_expectation_among_values_that_items_have() -> None:
    found = taste_of(user(), ATTRIBUTES, NAMES)
    assert found.values.tolist() == [ATTRIBUTES.ids["genre:b"]]
    np.testing.assert_allclose(found.odds, [np.log(3.0 / 2.0)])
    np.testing.assert_allclose(found.medians, [np.nan, np.log(2000.0)])


def test_a_profile_without_attributes_or_numbers_has_none() -> None:
    found = taste_of({"attr_keys": None, "numeric_keys": []}, ATTRIBUTES, NAMES)
    assert (found.values.tolist(), found.odds, found.medians) == ([], None, None)


def test_a_row_is_reckoned_once_and_another_row_or_snapshot_anew() -> None:
    tastes, row = KeptTastes(), user()
    first = tastes(row, ATTRIBUTES, NAMES)
    assert tastes(row, ATTRIBUTES, NAMES) is first
    assert same(tastes(user(5.0), ATTRIBUTES, NAMES), taste_of(user(5.0), ATTRIBUTES, NAMES))
    other = attributes_of(as_lists([["genre:b"], ["genre:a"]]))
    assert same(tastes(row, other, NAMES), taste_of(row, other, NAMES))
    assert same(tastes(row, ATTRIBUTES, NAMES), first)


def test_rows_that_come_and_go_are_never_taken_for_one_another() -> None:
    tastes = KeptTastes(size=4)
    for clicks in range(200):  # each row dies at once: its identity is free for the next
        wanted = taste_of(user(float(clicks)), ATTRIBUTES, NAMES)
        assert same(tastes(user(float(clicks)), ATTRIBUTES, NAMES), wanted)
