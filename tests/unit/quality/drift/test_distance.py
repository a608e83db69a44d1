from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quality.drift.distance import category_distance, numeric_distance, share_chance, tallies

ALPHA = 1e-6


def naive_psi(before: list[float], after: list[float]) -> float:
    total = 0.0
    for b, a in zip(before, after, strict=True):
        p = (b + 0.5) / (sum(before) + 0.5 * len(before))
        q = (a + 0.5) / (sum(after) + 0.5 * len(after))
        total += (q - p) * math.log(q / p)
    return total


labels = st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=30, max_size=80)


@settings(max_examples=80, deadline=None)
@given(labels, labels)
def test_label_distances_equal_naive_sums(before: list[str], after: list[str]) -> None:
    found = category_distance(before, after, ALPHA)
    first, second = Counter(before), Counter(after)
    top = [label for label, _ in sorted(first.items(), key=lambda p: (-p[1], p[0]))[:20]]
    cells = [*top, "rest"]
    table = []
    for counts, size in ((first, len(before)), (second, len(after))):
        known = [counts[label] for label in top]
        table.append(dict(zip(cells, [*known, size - sum(known)], strict=True)))
    used = [c for c in cells if table[0][c] + table[1][c]]
    assert found.psi == pytest.approx(naive_psi([table[0][c] for c in used], [table[1][c] for c in used]))
    naive = sum(abs(table[0][c] / len(before) - table[1][c] / len(after)) for c in used) / 2
    assert found.shift == pytest.approx(naive)
    assert 0 <= found.p_value <= 1


numbers = st.lists(st.floats(-100, 100) | st.just(0.0), min_size=30, max_size=80)


@settings(max_examples=80, deadline=None)
@given(numbers, numbers)
def test_number_distances_are_sane_and_ks_is_scipys(before: list[float], after: list[float]) -> None:
    one, other = np.array(before), np.array(after)
    found = numeric_distance(one, other, ALPHA)
    steps = np.concatenate([one, other])
    gap = max(abs((one <= x).mean() - (other <= x).mean()) for x in steps)
    assert found.shift == pytest.approx(gap)
    assert found.psi >= 0
    assert numeric_distance(one, one, ALPHA).psi == pytest.approx(0, abs=1e-12)
    assert numeric_distance(one, one, ALPHA).p_value == 1.0


def test_psi_of_numbers_uses_the_references_deciles() -> None:
    before = np.arange(1000.0)
    after = np.concatenate([np.arange(500.0), np.arange(500.0)])
    # The upper half of the bins is empty, the lower half holds twice as much.
    assert numeric_distance(before, after, ALPHA).psi == pytest.approx(
        naive_psi([100.0] * 10, [200.0] * 5 + [0.0] * 5), rel=0.02
    )


def test_a_value_that_spans_many_deciles_has_its_own_bin() -> None:
    rest = np.concatenate([-np.linspace(0.1, 1, 150), np.linspace(0.1, 1, 150)])
    before = np.concatenate([rest, np.zeros(700)])
    after = np.concatenate([rest, np.full(700, -0.05)])
    assert numeric_distance(before, after, ALPHA).psi > 1
    assert numeric_distance(before, before, ALPHA).psi == 0


def test_more_rows_than_values_do_not_add_evidence() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=5000), rng.normal(0.15, size=5000)
    assert numeric_distance(before, after, ALPHA).p_value < ALPHA
    assert numeric_distance(before, after, ALPHA, (100, 100)).p_value > ALPHA


def test_the_rest_of_the_labels_is_one_label() -> None:
    names, before, after = tallies([f"n{i:02}" for i in range(30)], ["n00", "new", "new"])
    assert (len(names), names[-1], before[-1], after[0], after[-1]) == (21, "other", 10, 1, 2)


def test_labels_that_are_all_new_are_as_far_as_can_be() -> None:
    found = category_distance(["a"] * 100, ["b"] * 100, ALPHA)
    assert found.shift == 1
    assert found.p_value < 1e-40


def test_one_label_everywhere_has_distance_zero() -> None:
    found = category_distance(["a"] * 50, ["a"] * 50, ALPHA)
    assert (found.psi, found.shift, found.p_value) == (0, 0, 1)


def test_equal_distributions_stay_under_what_chance_gives() -> None:
    """The bound on PSI is right: at alpha 1 % about 1 % of 2,000 pairs of equal samples lie above it."""
    rng = np.random.default_rng(7)
    above = sum(
        found.psi > found.psi_chance
        for found in (numeric_distance(rng.normal(size=400), rng.normal(size=300), 0.01) for _ in range(2000))
    )
    assert 0 < above < 2 * stats.binom.ppf(0.999, 2000, 0.01)


@pytest.mark.parametrize(("rows", "share"), [((40, 40), 0.3), ((300, 60), 0.1), ((2000, 1000), 0.5)])
def test_two_equal_shares_differ_by_more_than_chance_as_often_as_said(
    rows: tuple[int, int], share: float
) -> None:
    rng = np.random.default_rng(3)
    drawn = [rng.binomial(n, share, 4000) / n for n in rows]
    over = [abs(a - b) > share_chance((a, b), rows, 0.05) for a, b in zip(*drawn, strict=True)]
    assert np.mean(over) == pytest.approx(0.05, abs=0.02)


def test_no_rows_prove_no_difference_of_shares() -> None:
    assert share_chance((0, 1), (0, 9), ALPHA) == math.inf
    assert share_chance((0, 0), (9, 9), ALPHA) == 0


def kolmogorov(x: float) -> float:
    """Chance that √n·D exceeds x: Kolmogorov's alternating series."""
    return min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101)))


@pytest.mark.parametrize("rows", [None, (50, 400), (400, 50)])
def test_the_chance_of_a_shift_is_kolmogorovs_with_the_rows_behind_it(rows: tuple[int, int] | None) -> None:
    before, after = np.arange(300.0), np.arange(120.0) * 2.5 + 30
    found = numeric_distance(before, after, ALPHA, rows)
    n, m = rows or (300, 120)
    assert found.p_value == pytest.approx(kolmogorov(found.shift * math.sqrt(n * m / (n + m))), rel=1e-6)
    assert 1e-12 < found.p_value < 0.99, "a case that can tell"


@given(st.lists(st.integers(-5, 105), min_size=1, max_size=60))
def test_a_value_on_an_edge_belongs_to_the_bin_below_it(values: list[int]) -> None:
    before = np.arange(101.0)  # deciles at 10, 20, … 90
    edges = range(10, 100, 10)
    counts = [[sum(edge < v for edge in edges) for v in sample] for sample in (range(101), values)]
    naive = naive_psi(*([float(found.count(b)) for b in range(10)] for found in counts))
    assert numeric_distance(before, np.array(values, float), ALPHA).psi == pytest.approx(naive)


def test_what_chance_gives_by_the_formula() -> None:
    """χ² of B − 1 degrees, times 1/n + 1/m (Yurdakul 2018); ten bins, two labels."""
    numbers = numeric_distance(np.arange(200.0), np.arange(50.0), 0.01)
    assert numbers.psi_chance == pytest.approx(stats.chi2.isf(0.01, 9) * (1 / 200 + 1 / 50))
    named = category_distance(["a", "b"] * 50, ["a"] * 30, 0.01, (80, 20))
    assert named.psi_chance == pytest.approx(stats.chi2.isf(0.01, 1) * (1 / 80 + 1 / 20))


def test_the_chance_of_labels_is_that_of_the_rows_behind_them() -> None:
    """Ten labels a row are no ten rows: χ² of a 2×2 table by its definition, on the rows."""
    before, after = ["a"] * 600 + ["b"] * 400, ["a"] * 200 + ["b"] * 300
    found = category_distance(before, after, ALPHA, (100, 50))
    table = np.array([[60.0, 40.0], [20.0, 30.0]])
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    distance = float(((table - expected) ** 2 / expected).sum())
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(distance / 2)))
    assert found.shift == pytest.approx(0.2)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(1, 5000), st.integers(1, 5000))
def test_the_difference_chance_gives_by_the_z_test(a: float, b: float, n: int, m: int) -> None:
    pooled = (a * n + b * m) / (n + m)
    expected = 1.959963984540054 * math.sqrt(pooled * (1 - pooled) * (n + m) / (n * m))
    assert share_chance((a, b), (n, m), 0.05) == pytest.approx(expected)
