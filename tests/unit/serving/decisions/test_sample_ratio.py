"""Sample-ratio mismatch: a broken split is detected, and repeated checks of a fair one raise no alarm."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare, dirichlet_multinomial, multinomial

from serving.control.experiments import Arm, Experiment, assign, fraction
from serving.decisions import sample_ratio
from serving.decisions.sample_ratio import CONCENTRATION, log_evidence, mismatched

EVEN = {"a": 1.0, "b": 1.0}
weights = st.lists(st.floats(0.1, 9), min_size=2, max_size=4)


@given(weights.flatmap(lambda w: st.tuples(st.just(w), st.lists(st.integers(0, 5000), min_size=len(w)))))
def test_the_evidence_is_the_ratio_of_two_distributions(given_: tuple[list[float], list[int]]) -> None:
    shares, counts = np.array(given_[0]) / sum(given_[0]), given_[1][: len(given_[0])]
    total = sum(counts)
    any_shares = dirichlet_multinomial.logpmf(counts, CONCENTRATION * shares, total)
    expected = any_shares - multinomial.logpmf(counts, total, shares)
    found = log_evidence(
        {str(n): count for n, count in enumerate(counts)}, {str(n): w for n, w in enumerate(given_[0])}
    )
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("units", [1, 2, 40, 400])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_of_a_fair_split_its_mean_is_one(units: int, share: float) -> None:
    """Ville's inequality bounds false alarms if the mean of the ratio is never above one."""
    each = range(units + 1)
    declared = {"in": share, "out": 1 - share}
    ratios = np.array([log_evidence({"in": k, "out": units - k}, declared) for k in each])
    assert np.exp(binom.logpmf(each, units, share) + ratios).sum() == pytest.approx(1.0)


def test_looking_often_makes_no_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a level of 5 %, so that 300 splits suffice; a chi-square test checked as often fails on them."""
    monkeypatch.setattr(sample_ratio, "ALARM", 0.05)
    generator = np.random.default_rng(5)
    looks = range(50, 5001, 50)
    runs, alarms, by_chi_square = 300, 0, 0
    for _ in range(runs):
        in_a = (generator.random(looks[-1]) < 1 / 3).cumsum()
        seen = [(int(in_a[n - 1]), n) for n in looks]
        alarms += any(mismatched({"a": k, "b": n - k}, {"a": 1.0, "b": 2.0}) for k, n in seen)
        observed = np.array([[k, n - k] for k, n in seen])
        expected = np.array([[n / 3, n * 2 / 3] for _, n in seen])
        by_chi_square += bool((chisquare(observed, expected, axis=1).pvalue < 0.05).any())
    assert by_chi_square > 0.3 * runs
    assert alarms <= 0.05 * runs


def test_every_thinning_of_the_sample_has_its_part_of_the_false_alarms() -> None:
    levels = [math.exp(-least_evidence(halvings)) for halvings in range(12)]
    assert sum(levels) == pytest.approx(sample_ratio.ALARM, rel=0.01)
    assert all(later < earlier for earlier, later in itertools.pairwise(levels))


def least_evidence(halvings: int) -> float:
    """Find the least evidence that raises an alarm, from both sides."""
    for count in range(500, 1000):
        counts = {"a": count, "b": 1000 - count}
        if mismatched(counts, EVEN, halvings):
            least = (halvings + 1) * math.log(2) - math.log(sample_ratio.ALARM)
            assert (
                log_evidence(counts, EVEN) >= least > log_evidence({"a": count - 1, "b": 1001 - count}, EVEN)
            )
            return least
    pytest.fail("nothing raises an alarm")


def test_a_fair_split_raises_no_alarm_and_one_that_loses_units_does() -> None:
    even = Experiment(name="two", arms={"a": Arm(), "b": Arm()})
    fair: Counter[str] = Counter()
    skewed: Counter[str] = Counter()
    for user in (f"user-{n}" for n in range(20_000)):
        arm = assign([even], 0.0, user, None).arms["two"]
        fair[arm] += 1
        skewed[arm] += arm == "a" or fraction("loss", user) > 0.1
    assert not mismatched(fair, EVEN)
    assert mismatched(skewed, EVEN)


@pytest.mark.parametrize(
    ("counts", "shares", "alarm"),
    [
        ({"a": 9, "b": 0}, EVEN, False),  # one of 256 fair splits
        ({"a": 60, "b": 0}, EVEN, True),
        ({"a": 50_900, "b": 49_100}, EVEN, True),
        ({"a": 50_500, "b": 49_500}, EVEN, False),
        ({"in": 420, "out": 9_580}, {"in": 0.05, "out": 0.95}, False),  # 3.7 standard deviations
        ({"in": 400, "out": 9_600}, {"in": 0.05, "out": 0.95}, True),
        ({}, EVEN, False),
        ({"in": 500}, {"in": 1.0, "out": 0.0}, False),
    ],
)
def test_what_raises_an_alarm(counts: dict[str, int], shares: dict[str, float], alarm: bool) -> None:
    assert mismatched(counts, shares) is alarm
