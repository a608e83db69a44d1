"""Ranking metrics against the plainest implementation of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.ranking.metrics import (
    METRICS,
    Interval,
    average_precision,
    coverage,
    coverage_interval,
    hits,
    mean_interval,
    ndcg,
    paired_interval,
    positions_of,
    precision,
    recall,
    reciprocal_rank,
)

Lists = list[list[tuple[float, bool]]]
lists_of = st.lists(
    st.lists(st.tuples(st.integers(-3, 3).map(float), st.booleans()), min_size=1, max_size=15),
    min_size=1,
    max_size=8,
)


def flat(lists: Lists) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.array([s for rows in lists for s, _ in rows])
    relevant = np.array([r for rows in lists for _, r in rows], bool)
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in lists])]).astype(np.intp)
    return scores, relevant, offsets


def ordered(rows: list[tuple[float, bool]]) -> list[bool]:
    return [relevant for _, relevant in sorted(rows, key=lambda row: -row[0])]


def naive_ndcg(rows: list[tuple[float, bool]], cutoff: int) -> float:
    gains = ordered(rows)
    dcg = sum(1 / math.log2(i + 2) for i, r in enumerate(gains[:cutoff]) if r)
    ideal = sum(1 / math.log2(i + 2) for i in range(min(sum(gains), cutoff)))
    return dcg / ideal if ideal else math.nan


@given(lists_of, st.integers(1, 12))
def test_metrics_equal_their_definitions(lists: Lists, cutoff: int) -> None:
    scores, relevant, offsets = flat(lists)
    positions = positions_of(scores, offsets)
    np.testing.assert_allclose(
        ndcg(positions, relevant, offsets, cutoff), [naive_ndcg(r, cutoff) for r in lists], atol=1e-12
    )
    first = [next((1 / (i + 1) for i, r in enumerate(ordered(rows)) if r), math.nan) for rows in lists]
    np.testing.assert_allclose(reciprocal_rank(positions, relevant, offsets), first)
    hit = [float(any(ordered(rows)[:cutoff])) if any(ordered(rows)) else math.nan for rows in lists]
    np.testing.assert_allclose(hits(positions, relevant, offsets, cutoff), hit)
    top = [ordered(rows)[:cutoff] for rows in lists]
    total = [sum(ordered(rows)) or math.nan for rows in lists]
    np.testing.assert_allclose(
        recall(positions, relevant, offsets, cutoff), [sum(t) / n for t, n in zip(top, total, strict=True)]
    )
    shares = [sum(t) / cutoff if n > 0 else math.nan for t, n in zip(top, total, strict=True)]
    np.testing.assert_allclose(precision(positions, relevant, offsets, cutoff), shares)
    means = [
        sum(sum(t[: i + 1]) / (i + 1) for i, r in enumerate(t) if r) / min(n, cutoff)
        for t, n in zip(top, total, strict=True)
    ]
    np.testing.assert_allclose(average_precision(positions, relevant, offsets, cutoff), means)


@given(lists_of)
def test_positions_are_a_permutation_of_each_list_and_ties_keep_their_order(lists: Lists) -> None:
    scores, _, offsets = flat(lists)
    positions = positions_of(scores, offsets)
    for i, rows in enumerate(lists):
        mine = positions[offsets[i] : offsets[i + 1]]
        wanted = sorted(range(len(rows)), key=lambda j: -rows[j][0])
        assert [int(np.flatnonzero(mine == p)[0]) for p in range(len(rows))] == wanted


def test_every_metric_of_a_perfect_order_of_ten_is_one() -> None:
    relevant, offsets = np.ones(10, bool), np.array([0, 10])
    for name, metric in METRICS.items():
        assert metric(np.arange(10), relevant, offsets)[0] == 1.0, name


def test_a_perfect_order_scores_one_and_the_worst_less() -> None:
    relevant = np.array([True, False, False])
    offsets = np.array([0, 3])
    assert ndcg(np.array([0, 1, 2]), relevant, offsets)[0] == 1.0
    assert ndcg(np.array([2, 0, 1]), relevant, offsets)[0] == 0.5


def test_intervals_are_those_of_student() -> None:
    found = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.mean == 2.5
    assert found.high - found.mean == pytest.approx(3.1824463 * 1.2909944 / 2, rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_the_interval_of_nothing_is_nan_and_of_one_value_unbounded() -> None:
    assert math.isnan(mean_interval(np.array([])).mean)
    assert mean_interval(np.array([0.5])) == Interval(0.5, -math.inf, math.inf)


def test_pairing_removes_what_the_lists_have_in_common() -> None:
    hard = np.linspace(0.0, 1.0, 50)
    gain = np.where(np.arange(50) % 2 == 0, 0.011, 0.009)
    assert paired_interval(hard + gain, hard).above_zero
    assert not paired_interval(hard, hard + gain).above_zero
    assert mean_interval(hard + gain).low < mean_interval(hard).high


def test_intervals_cover_the_true_mean_about_95_times_in_100() -> None:
    generator = np.random.default_rng(7)
    held = [
        found.low <= 0.3 <= found.high
        for found in (mean_interval(generator.normal(0.3, 1.0, 30)) for _ in range(1000))
    ]
    assert 930 <= sum(held) <= 970


def test_coverage_counts_items_shown_among_those_offered() -> None:
    items = np.array([1, 2, 3, 1, 2, 4])
    positions = np.array([0, 1, 2, 1, 0, 2])
    assert coverage(items, positions, cutoff=1) == pytest.approx(2 / 4)
    assert coverage(items, positions, cutoff=2) == pytest.approx(2 / 4)
    assert coverage(items, positions, cutoff=3) == 1.0
    assert math.isnan(coverage(np.array([], np.intp), np.array([], np.intp)))


def test_coverage_interval_holds_its_value_and_is_repeatable() -> None:
    generator = np.random.default_rng(3)
    items = generator.integers(0, 300, 40 * 20)
    positions = np.tile(np.arange(20), 40)
    offsets = np.arange(0, 801, 20)
    found = coverage_interval(items, positions, offsets, seed=1)
    assert found.mean == coverage(items, positions)
    assert found.low < found.mean < found.high
    assert found.high <= 1.0
    assert found == coverage_interval(items, positions, offsets, seed=1)
