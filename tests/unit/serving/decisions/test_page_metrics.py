"""Page figures, computed by hand and within their bounds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.decisions.page_metrics import FIRST, page_figures
from tests.support.ranking_data import item, snapshot

HELD = snapshot(
    [
        item("a", ["category:x"], age_days=2.0, popularity_long=9.0),
        item("b", ["category:x"], age_days=4.0),
        item("c", ["category:y"], age_days=None),
        item("d", ["category:z", "category:y"]),
    ]
)


def test_a_page_by_hand() -> None:
    found = page_figures(np.array([0, 1, 2, -1]), HELD)
    assert found.category_coverage == pytest.approx(2 / 3)
    assert found.diversity == pytest.approx(1 - 1 / 3)  # one of three pairs is similar
    assert found.mean_age_days == pytest.approx(3.0)
    assert found.popular_share == pytest.approx(1 / 3)


def test_what_cannot_be_said_is_nan() -> None:
    nothing = page_figures(np.array([-1, -1]), HELD)
    assert all(math.isnan(v) for v in (nothing.category_coverage, nothing.diversity, nothing.popular_share))
    alone = page_figures(np.array([2]), HELD)
    assert math.isnan(alone.diversity)
    assert math.isnan(alone.mean_age_days)


def test_where_nothing_was_ever_engaged_with_nothing_is_popular() -> None:
    held = snapshot([item("a", ["category:x"]), item("b", ["category:x"])])
    assert page_figures(np.array([0, 1]), held).popular_share == 0.0


@given(st.lists(st.integers(-1, 3), unique=True, min_size=1, max_size=5))
def test_figures_lie_in_their_bounds(numbers: list[int]) -> None:
    found = page_figures(np.array(numbers), HELD)
    for value in (found.category_coverage, found.diversity, found.popular_share):
        assert math.isnan(value) or -1e-9 <= value <= 1 + 1e-9


def test_only_the_first_items_count() -> None:
    held = snapshot([item(f"i{n}", [f"category:{n}"]) for n in range(FIRST + 5)])
    assert page_figures(np.arange(FIRST + 5), held).category_coverage == pytest.approx(FIRST / (FIRST + 5))


KEYS = [{"x"}, {"x"}, {"y"}, {"z", "y"}]


@pytest.mark.parametrize("numbers", [[0, 1], [0, 2], [2, 3], [0, 1, 2, 3], [3, 2, 1]])
def test_the_diversity_is_the_mean_over_pairs(numbers: list[int]) -> None:
    """1 − cosine of the categories, each pair once."""
    apart = [
        1 - len(KEYS[a] & KEYS[b]) / math.sqrt(len(KEYS[a]) * len(KEYS[b]))
        for a, b in itertools.combinations(numbers, 2)
    ]
    expected = pytest.approx(sum(apart) / len(apart))
    assert page_figures(np.array(numbers), HELD).diversity == expected
    assert page_figures(np.array(numbers[::-1]), HELD).diversity == expected


def test_what_is_no_item_is_refused() -> None:
    with pytest.raises(IndexError, match="4 is no item of a snapshot of 4"):
        page_figures(np.array([0, 4]), HELD)


def test_an_empty_answer_has_no_figures_at_all() -> None:
    found = page_figures(np.array([], np.intp), HELD)
    assert all(
        math.isnan(v)
        for v in (found.category_coverage, found.diversity, found.mean_age_days, found.popular_share)
    )


def test_a_catalogue_without_categories_has_no_coverage_to_speak_of() -> None:
    held = snapshot([item("a"), item("b")])
    found = page_figures(np.array([0, 1]), held)
    assert math.isnan(found.category_coverage)
    assert found.mean_age_days == 1.0


def test_an_item_on_the_edge_of_the_popular_is_popular() -> None:
    held = snapshot([item(f"i{n}", ["category:x"], popularity_long=float(n)) for n in range(11)])
    popular = [n for n in range(11) if held.popularity[n, 2] >= held.popular_from]
    assert popular == [9, 10]
    assert held.popularity[popular[0], 2] == held.popular_from
    assert page_figures(np.array(popular[:1]), held).popular_share == 1.0
    assert page_figures(np.array([popular[0] - 1]), held).popular_share == 0.0
