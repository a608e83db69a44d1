from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from feature_repo.arrays import Floats
from feature_repo.settings import Settings
from quality.drift.feature_drift import Thresholds
from quality.drift.rates import DayRates, Sums, category_changes, rate_change, rates_report, total, windows
from quality.pages.rate_plots import write_rate_plots

FIRST = date(2024, 5, 1)
SESSIONS = 250


def sums(x: Floats, y: Floats) -> Sums:
    return Sums(*(float(v.sum()) for v in (x, y, x * x, x * y, y * y)))


def carts(rng: np.random.Generator, chance: float, sessions: int = SESSIONS) -> Sums:
    """A day of sessions with a few clicks each; some sessions buy more than others."""
    clicks = rng.geometric(0.4, sessions) - 1
    eager = np.clip(chance * rng.gamma(2, 0.5, sessions), 0, 1)
    return sums(clicks.astype(float), rng.binomial(clicks, eager).astype(float))


def visits(count: int) -> Sums:
    return Sums(x=1, y=count, yy=count)


def shop(rng: np.random.Generator, days: int = 35, changed: int = 0, chance: float = 0.07) -> list[DayRates]:
    """Days of a shop whose last `changed` days have another chance of a cart than 0.14."""
    found = []
    for n in range(days):
        now = n >= days - changed
        mix = dict(zip("abcd", rng.multinomial(SESSIONS, [0.4, 0.3, 0.2, 0.1]).tolist(), strict=True))
        rates = {
            "cart_per_click": carts(rng, chance if now else 0.14),
            "sessions": visits(int(rng.poisson(SESSIONS))),
        }
        found.append(DayRates(FIRST + timedelta(days=n), rates, mix))
    return found


def failed(days: Sequence[DayRates], thresholds: Thresholds | None = None) -> set[str]:
    return {r.column for r in rates_report(days, thresholds or Thresholds()).failures}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.lists(st.integers(1, 40), min_size=7, max_size=28))
def test_counts_of_even_days_are_judged_as_by_the_binomial_test(now: int, before: list[int]) -> None:
    mean = sum(before) / len(before)
    found = rate_change("sessions", 1, [visits(now)], [visits(n) for n in before])
    assert found is not None
    assert found.before == pytest.approx(mean)
    assert found.after == now
    uneven = sum((n - mean) ** 2 / n for n in before) / (len(before) - 1)
    if uneven > 1:  # days differ by more than chance: the same counts are weaker evidence
        return
    share = 1 / (1 + len(before))
    tails = [stats.binomtest(now, now + sum(before), share, side).pvalue for side in ("less", "greater")]
    assert found.p_value == pytest.approx(min(1.0, 2 * min(tails)))


def test_where_nothing_changed_small_p_values_are_as_rare_as_they_say() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(600):
        before, now = [carts(rng, 0.14) for _ in range(28)], [carts(rng, 0.14) for _ in range(3)]
        change = rate_change("cart", 3, now, before)
        assert change is not None
        found.append(change.p_value)
    for level in (0.01, 0.05, 0.2):
        assert (np.array(found) < level).mean() <= 1.6 * level


def test_sessions_that_buy_many_things_are_one_piece_of_evidence() -> None:
    one = np.ones(50)
    single = [sums(one, np.repeat([1.0, 0.0], 25))] * 28
    tenfold = [sums(10 * one, np.repeat([10.0, 0.0], 25))] * 28
    apart = rate_change("r", 1, [sums(one, np.repeat([1.0, 0.0], [10, 40]))], single)
    bundled = rate_change("r", 1, [sums(10 * one, np.repeat([10.0, 0.0], [10, 40]))], tenfold)
    assert apart is not None
    assert bundled is not None
    assert bundled.p_value == pytest.approx(apart.p_value)


def test_differing_weekdays_are_not_evidence_but_even_days_are() -> None:
    even = [visits(100)] * 28
    uneven = [visits(60 if n % 7 < 2 else 116) for n in range(28)]
    calm, wild = (rate_change("sessions", 1, [visits(55)], days) for days in (even, uneven))
    assert calm is not None
    assert wild is not None
    assert calm.p_value < 1e-5
    assert wild.p_value > 1e-2


def test_rates_that_never_vary_and_rates_nobody_knows() -> None:
    always = sums(np.ones(50), np.ones(50))
    found = rate_change("r", 1, [always], [always] * 7)
    assert found is not None
    assert (found.size, found.p_value) == (0, 1)
    assert rate_change("r", 1, [always], [always] * 6) is None
    assert rate_change("r", 1, [Sums()], [always] * 7) is None
    assert rate_change("r", 1, [always], [sums(np.ones(9), np.zeros(9))] * 7) is None
    assert total([]) == Sums()
    assert np.isnan(Sums().rate)


def test_the_reference_of_a_window_is_the_four_weeks_before_it() -> None:
    days = shop(np.random.default_rng(0), 40)
    found = {n: (window, reference) for n, window, reference in windows(days)}
    assert set(found) == {1, 3, 7}
    for length, (window, reference) in found.items():
        assert [d.day for d in window] == [d.day for d in days[-length:]]
        assert [d.day for d in reference] == [d.day for d in days[-length - 28 : -length]]
    assert [n for n, *_ in windows(days[:10])] == [1, 3]
    assert list(windows(days[:7])) == []


def test_stable_shops_are_quiet() -> None:
    for seed in range(40):
        assert failed(shop(np.random.default_rng(seed))) == set()


@pytest.mark.parametrize("chance", [0.07, 0.28])
def test_only_the_change_of_conversion_is_reported_within_the_week(chance: float) -> None:
    for seed in range(8):
        assert failed(shop(np.random.default_rng(seed), 35, 7, chance)) == {"cart_per_click"}


def test_a_finding_names_window_change_and_bound() -> None:
    days = shop(np.random.default_rng(1))
    emptied = DayRates(days[-1].day, {**days[-1].rates, "sessions": visits(3)}, {"new": 120.0})
    report = rates_report([*days[:-1], emptied], Thresholds())
    told = {r.column: r for r in report.failures}
    assert (report.target, report.rows, report.passed) == ("behaviour drift", 3, True)
    assert set(told) == {"sessions", "categories"}
    assert told["sessions"].message.startswith("sessions: 3 over 1 day, before 2")
    assert told["sessions"].message.endswith("; wanted a change of at most 25%, or p ≥ 1e-06")
    assert told["categories"].observed.startswith("total variation 1 over 1 day (p ")
    assert told["categories"].wanted == "at most 0.1, or p ≥ 1e-06"
    lax = Thresholds.of(Settings(drift_rate=2, drift_shift=1))
    assert failed([*days[:-1], emptied], lax) == set()


def test_categories_are_compared_by_sessions() -> None:
    days = shop(np.random.default_rng(2))
    lengths = [n for n, _ in category_changes(days, 1e-6)]
    assert lengths == [1, 3, 7]
    few = [DayRates(d.day, d.rates, {"a": 1.5, "b": 0.5}) for d in days]
    assert category_changes(few, 1e-6) == []


def test_a_shop_of_a_week_is_not_judged() -> None:
    assert rates_report(shop(np.random.default_rng(0), 7), Thresholds()).results == ()


def test_a_plot_per_rate_and_a_page_with_the_drifted_first(tmp_path: Path) -> None:
    days = shop(np.random.default_rng(1), 35, 7)
    page = write_rate_plots(days, rates_report(days, Thresholds()), tmp_path / "plots")
    text = page.read_text()
    assert {p.stem for p in page.parent.glob("*.png")} == {"cart_per_click", "sessions"}
    assert (page.parent / "sessions.png").read_bytes().startswith(b"\x89PNG")
    assert text.index("<b>cart_per_click</b>") < text.index("<b>sessions</b>")
    assert "1 of 2 features drifted" in text
