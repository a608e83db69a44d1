"""The listwise fit: gradient, recovery of known weights, agreement with what serves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orchestration.evaluation.listwise_softmax import fit_softmax, scales_of, standardized
from tests.oracles.blend_oracle import standardize


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_all_lists_at_once_equal_each_list_as_serving_standardizes_it(
    lengths: list[int], data: st.DataObject
) -> None:
    offsets = offsets_of(lengths)
    elements = st.one_of(st.floats(-9, 9, width=32), st.just(float("nan")))
    values = data.draw(hnp.arrays(np.float32, (int(offsets[-1]), 3), elements=elements))
    centred = np.array([False, True, True])
    scales = np.array([1.0, 0.5, 3.0])
    together = standardized(values, offsets, centred, scales)
    for start, stop in pairwise(offsets):
        alone = standardize(values[start:stop].astype(np.float64), scales, centred)
        np.testing.assert_allclose(together[start:stop], alone, atol=1e-5)


def test_scales_are_spread_within_lists_not_between_them() -> None:
    values = np.array([[1.0], [3.0], [101.0], [103.0], [np.nan]], np.float32)
    offsets = offsets_of([2, 3])
    assert scales_of(values, offsets, np.array([True])).tolist() == [1.0]
    assert scales_of(np.full((4, 1), 7.0, np.float32), offsets_of([2, 2]), np.array([True])).tolist() == [0.0]


def test_a_constant_signal_is_zero() -> None:
    values = np.full((3, 1), 7.0, np.float32)
    assert standardized(values, offsets_of([3]), np.array([True]), np.array([0.0])).tolist() == [[0.0]] * 3


def drawn_lists(weights: np.ndarray, lists: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(11)
    signals = generator.normal(size=(lists * width, len(weights)))
    scores = (signals @ weights).reshape(lists, width)
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    picked = np.array([generator.choice(width, p=p) for p in chances])
    relevant = np.zeros((lists, width), bool)
    relevant[np.arange(lists), picked] = True
    return signals, relevant.ravel(), offsets_of([width] * lists)


def test_the_weights_that_made_the_choices_are_found() -> None:
    wanted = np.array([1.0, -0.5, 0.0])
    found = fit_softmax(*drawn_lists(wanted, 3000, 8), ridge=1.0)
    np.testing.assert_allclose(found, wanted, atol=0.08)


def test_a_ridge_pulls_the_weights_to_zero() -> None:
    lists = drawn_lists(np.array([1.0, -0.5, 0.0]), 200, 8)
    norms = [float(np.linalg.norm(fit_softmax(*lists, ridge=ridge))) for ridge in (1.0, 100.0, 1e6)]
    assert norms[0] > norms[1] > norms[2]
    assert norms[2] < 1e-3


def test_the_fit_is_a_minimum_of_the_loss_as_written() -> None:
    signals, relevant, offsets = drawn_lists(np.array([0.7, 0.2, -0.3]), 60, 5)

    def loss(weights: np.ndarray) -> float:
        total = 30.0 / 2 * float(weights @ weights)
        for start, stop in pairwise(offsets):
            scores = signals[start:stop] @ weights
            log_odds = scores - np.log(np.exp(scores).sum())
            total -= float(log_odds[relevant[start:stop]].sum())
        return total

    found = fit_softmax(signals, relevant, offsets, ridge=30.0)
    for direction in np.eye(3):
        for step in (-1e-2, 1e-2):
            assert loss(found + step * direction) > loss(found)


def test_no_lists_give_zero_weights() -> None:
    nothing = fit_softmax(np.zeros((0, 2)), np.zeros(0, bool), np.array([0], np.intp))
    assert nothing.tolist() == [0.0, 0.0]
