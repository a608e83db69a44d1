"""Sorting, checking and rescoring against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scoring.ordering import falling, is_whole, rescored

ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)
FEW = st.integers(-3, 3).map(float)


def stable(values: list[float]) -> list[int]:
    """Sort descending with ties as given and nan last; Python's sort is stable."""
    return sorted(
        range(len(values)),
        key=lambda i: (math.isnan(values[i]), 0.0 if math.isnan(values[i]) else -values[i]),
    )


@given(st.lists(ANY, max_size=50) | st.lists(FEW, max_size=200) | st.lists(st.floats(-1, 1), max_size=200))
def test_falling_is_a_stable_sort(values: list[float]) -> None:
    assert falling(np.array(values, np.float64)).tolist() == stable(values)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).normal(size=500),
        np.arange(500.0),
        np.ones(500),
        np.zeros(0),
        np.array([0.0, -0.0] * 20),
        np.append(np.random.default_rng(1).random(500), 1e12),
        np.random.default_rng(1).integers(0, 300, 500).astype(np.float64),
        np.array([1.0, np.inf, np.inf]),
        np.array([1.0, -np.inf]),
        np.array([np.inf, np.nan] * 20),
    ],
    ids=["normal", "rising", "equal", "none", "zeros", "one far off", "ties", "inf", "-inf", "nan"],
)
def test_many_values_are_sorted_stably(values: np.ndarray) -> None:
    assert falling(values).tolist() == stable(values.tolist())


def test_every_second_value_may_be_sorted() -> None:
    held = np.arange(10.0)[::2]
    assert falling(held).tolist() == [4, 3, 2, 1, 0]


def plain(after: np.ndarray, scores: np.ndarray) -> tuple[list[float], list[float]]:
    moved = scores.copy()
    moved[after] = np.sort(scores[after])[::-1]
    return moved.tolist(), (moved - scores).tolist()


@given(st.lists(st.integers(0, 9).map(float), max_size=30), st.randoms(use_true_random=False), st.booleans())
def test_scores_stay_with_their_places(values: list[float], random: object, fall: bool) -> None:
    scores = np.array(values)
    before = (-scores).argsort(kind="stable") if fall else np.arange(len(scores))
    shuffled = before.tolist()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for after in (np.array(shuffled, np.intp), np.array(shuffled[: len(shuffled) // 2], np.intp)):
        moved, added = rescored(after, scores)
        assert (moved.tolist(), added.tolist()) == plain(after, scores)
        assert scores.tolist() == values


@pytest.mark.parametrize(("before", "after"), [([0, 1], [0, 2]), ([0, 2], [0, 1]), ([-3, 1], [0, 5])])
def test_what_is_no_candidate_is_numpys_to_refuse(before: list[int], after: list[int]) -> None:
    scores = np.array([2.0, 1.0])
    if max(after) > 1:
        with pytest.raises(IndexError):
            rescored(np.array(after), scores)
    else:
        found = rescored(np.array(after), scores)
        assert (found[0].tolist(), found[1].tolist()) == plain(np.array(after), scores)


@given(st.lists(st.integers(-2, 6), max_size=6), st.integers(0, 5))
def test_whole_is_a_part_of_the_candidates_each_once(order: list[int], count: int) -> None:
    expected = len(set(order)) == len(order) and set(order) <= set(range(count))
    assert is_whole(np.array(order, np.intp), np.zeros(count), count) is expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_not_whole(bad: float) -> None:
    assert is_whole(np.array([1, 0]), np.array([0.5, 1.0]), 2)
    assert not is_whole(np.array([1, 0]), np.array([0.5, bad]), 2)
