"""Cached tastes of a row equal computed ones, and live no longer than the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.items.item_attributes import as_lists, attributes_of
from serving.scoring.profile_signals import Kept, KeptTastes, Tastes, leaning_of, taste_of
from tests.support.ranking_data import profile, session

ATTRIBUTES = attributes_of(as_lists([["genre:a", "genre:b"], ["tag:x"]]))
NAMES = ("price", "year")
Make = Callable[..., tuple[Any, ...]]


def user(clicks: float = 2.0) -> dict[str, Any]:
    return profile({"genre:b": (clicks, 1.0), "genre:never": (9.0, 1.0)}, medians={"year": 1999.0})


def visit(weight: float = 2.0) -> dict[str, Any]:
    return session({"i": 5}, {"genre:never": 4.0, "tag:x": weight})


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def test_a_taste_is_what_is_clicked_beyond_expectation_among_values_that_items_have() -> None:
    found = taste_of(user(), ATTRIBUTES, NAMES)
    assert found.known
    assert found.values.tolist() == [ATTRIBUTES.ids["genre:b"]]
    np.testing.assert_allclose(found.odds, [np.log(3.0 / 2.0)])
    np.testing.assert_allclose(found.medians, [np.nan, np.log(2000.0)])


def test_a_leaning_is_the_weight_of_values_that_items_have() -> None:
    found = leaning_of(visit(), ATTRIBUTES, NAMES)
    assert found.known
    assert found.values.tolist() == [ATTRIBUTES.ids["tag:x"]]
    assert found.weights.tolist() == [2.0]


@pytest.mark.parametrize("row", [None, {"attr_keys": None, "numeric_keys": []}, {"attr_keys": []}, {}])
def test_a_row_without_attributes_or_numbers_says_nothing(row: dict[str, Any] | None) -> None:
    taste, leaning = taste_of(row, ATTRIBUTES, NAMES), leaning_of(row, ATTRIBUTES, NAMES)
    assert (taste.known, taste.values.tolist(), taste.odds.tolist()) == (False, [], [])
    assert np.isnan(taste.medians).tolist() == [True, True]
    assert (leaning.known, leaning.values.tolist(), leaning.weights.tolist()) == (False, [], [])


@pytest.mark.parametrize(
    ("of", "row", "name"), [(taste_of, user(), "attr_clicks"), (leaning_of, visit(), "attr_weights")]
)
def test_a_row_with_fewer_amounts_than_values_is_refused(of: Make, row: dict[str, Any], name: str) -> None:
    row = {**row, name: row[name][:-2]}
    with pytest.raises((IndexError, ValueError)):
        of(row, ATTRIBUTES, NAMES)


@pytest.mark.parametrize(("of", "row"), [(taste_of, user), (leaning_of, visit)])
def test_a_row_is_reckoned_once_and_another_row_or_snapshot_anew(of: Make, row: Make) -> None:
    kept: Kept[Any] = Kept(of)
    one = row()
    first = kept(one, ATTRIBUTES, NAMES)
    assert kept(one, ATTRIBUTES, NAMES) is first
    assert same(kept(row(5.0), ATTRIBUTES, NAMES), of(row(5.0), ATTRIBUTES, NAMES))
    other = attributes_of(as_lists([["genre:b"], ["tag:y", "genre:a", "tag:x"]]))
    assert same(kept(one, other, NAMES), of(one, other, NAMES))
    assert same(kept(one, ATTRIBUTES, NAMES), first)
    assert kept(None, ATTRIBUTES, NAMES) is kept(None, ATTRIBUTES, NAMES)


def test_rows_that_come_and_go_are_never_taken_for_one_another() -> None:
    kept = Kept(taste_of, size=4)
    for clicks in range(200):  # each row is freed at once, so the next may get its id
        wanted = taste_of(user(float(clicks)), ATTRIBUTES, NAMES)
        assert same(kept(user(float(clicks)), ATTRIBUTES, NAMES), wanted)


def test_kept_tastes_are_those_reckoned() -> None:
    one, visited, kept = user(), visit(), KeptTastes()
    for tastes in (Tastes(), kept, kept):
        assert same(tastes.of_profile(one, ATTRIBUTES, NAMES), taste_of(one, ATTRIBUTES, NAMES))
        assert same(tastes.of_session(visited, ATTRIBUTES, NAMES), leaning_of(visited, ATTRIBUTES, NAMES))
