"""Behaviour rates: visits per day, carts per click, clicks on categories that the profile likes.

A profile sums months, so a change of taste or a drop in sales moves it slowly. Here a window of the last
days is compared with the four weeks before it: each rate by a binomial test whose evidence is sessions, not
events, widened if days differ by more than their sessions explain (weekdays, campaigns).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import date, timedelta

from scipy import special

from quality.checks.results import CheckReport, CheckResult
from quality.drift.distance import Distance, category_distance
from quality.drift.feature_drift import Thresholds

WINDOWS = (1, 3, 7)
"""Window lengths in days: a collapse shows in one day, a smaller change in seven."""
REFERENCE_DAYS = 28
LEAST_DAYS = 7
"""Days the reference must have: with fewer, the variation between days is unknown."""
CATEGORIES = "categories"
_LEAST_SESSIONS = 30
_SMALL = 1e-3


@dataclass(frozen=True)
class Sums:
    """Sums over sessions of a rate `y` / `x`: enough for its value and its sampling error."""

    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    @property
    def rate(self) -> float:
        """`y` / `x`; NaN without `x`."""
        return self.y / self.x if self.x else float("nan")

    def squares(self, rate: float) -> float:
        """Return the sum over sessions of (y − rate · x)²."""
        return max(self.yy - 2 * rate * self.xy + rate**2 * self.xx, 0.0)


@dataclass(frozen=True)
class DayRates:
    """Behaviour of a day's sessions.

    Attributes:
        rates: sums by rate name.
        categories: engaged sessions by category; a session with two categories counts half for each.
    """

    day: date
    rates: Mapping[str, Sums] = field(default_factory=dict)
    categories: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RateChange:
    """A rate in the last days and in the reference before them.

    Attributes:
        days: length of the window.
        p_value: probability of rates this far apart if nothing changed.
    """

    name: str
    days: int
    before: float
    after: float
    p_value: float

    @property
    def size(self) -> float:
        """Change relative to the reference."""
        return self.after / self.before - 1


def total(days: Sequence[Sums]) -> Sums:
    """Add up the sums of several days."""
    return Sums(*(sum(column) for column in zip(*map(astuple, days), strict=True))) if days else Sums()


def windows(days: Sequence[DayRates]) -> Iterator[tuple[int, list[DayRates], list[DayRates]]]:
    """Yield length, days and reference of each window that ends with the last of `days` (ascending)."""
    for length in WINDOWS:
        start = days[-1].day - timedelta(days=length - 1)
        since = start - timedelta(days=REFERENCE_DAYS)
        reference = [d for d in days if since <= d.day < start]
        if len(reference) >= LEAST_DAYS:
            yield length, [d for d in days if d.day >= start], reference


def rate_change(
    name: str, length: int, window: Sequence[Sums], reference: Sequence[Sums]
) -> RateChange | None:
    """Compare two sets of days; `None` if too few of them have the rate.

    Given the total of both, the window's `y` is binomial if nothing changed (Przyborowski and Wilenski 1940).
    Counts are first divided by their dispersion (quasi-likelihood, McCullagh and Nelder 1989): the dispersion
    of sessions about the common rate, times that of days beyond what sessions explain, if it is above 1.
    """
    now, before = total(window), total(reference)
    if len(reference) < LEAST_DAYS or not (now.x and before.x and before.y):
        return None
    rate = (now.y + before.y) / (now.x + before.x)
    spread = (now.squares(rate) + before.squares(rate)) / (now.y + before.y)
    scale = max(spread * _between_days(reference, before.rate), _SMALL)
    count, rest, share = now.y / scale, before.y / scale, now.x / (now.x + before.x)
    above = special.betainc(count, rest + 1, share) if count else 1.0
    below = special.betaincc(count + 1, rest, share)
    return RateChange(name, length, before.rate, now.rate, float(min(2 * min(above, below), 1.0)))


def _between_days(days: Sequence[Sums], rate: float) -> float:
    """Return the variation between days relative to what their sessions explain; at least 1."""
    ratios = [(d.y - rate * d.x) ** 2 / d.squares(rate) for d in days if d.squares(rate) > 0]
    return max(1.0, sum(ratios) / (len(ratios) - 1)) if len(ratios) > 1 else 1.0


def rate_changes(days: Sequence[DayRates]) -> dict[str, list[RateChange]]:
    """Compare every rate of the last day over each window."""
    found: dict[str, list[RateChange]] = {name: [] for name in sorted(days[-1].rates)}
    for length, window, reference in windows(days):
        for name, changes in found.items():
            sums = [[d.rates[name] for d in some if name in d.rates] for some in (window, reference)]
            change = rate_change(name, length, *sums)
            if change is not None:
                changes.append(change)
    return found


def category_changes(days: Sequence[DayRates], alpha: float) -> list[tuple[int, Distance]]:
    """Measure the distance of engaged categories over each window with enough sessions."""
    found = []
    for length, window, reference in windows(days):
        now, before = (_mix(some) for some in (window, reference))
        rows = (round(sum(before.values())), round(sum(now.values())))
        if min(rows) >= _LEAST_SESSIONS:
            found.append((length, category_distance(before, now, alpha, rows)))
    return found


def _mix(days: Sequence[DayRates]) -> dict[str, float]:
    mix: dict[str, float] = {}
    for day in days:
        for category, sessions in day.categories.items():
            mix[category] = mix.get(category, 0.0) + sessions
    return mix


def rates_report(days: Sequence[DayRates], thresholds: Thresholds) -> CheckReport:
    """Report the most significant window per rate, and one for the categories. Every result is a warning."""
    sizes = {name: changes for name, changes in rate_changes(days).items() if changes}
    results = [_rate_result(name, changes, thresholds) for name, changes in sizes.items()]
    mixes = category_changes(days, thresholds.alpha)
    if mixes:
        results.append(_category_result(mixes, thresholds))
    sessions = days[-1].rates.get("sessions", Sums()).y
    return CheckReport("behaviour drift", tuple(results), round(sessions))


def _rate_result(name: str, changes: Sequence[RateChange], wanted: Thresholds) -> CheckResult:
    def drifted(change: RateChange) -> bool:
        return abs(change.size) > wanted.rate and change.p_value < wanted.alpha

    told = [change for change in changes if drifted(change)]
    shown = min(told or changes, key=lambda change: change.p_value)
    observed = (
        f"{shown.after:.4g} over {_days(shown.days)}, before {shown.before:.4g} "
        f"({shown.size:+.0%}, p {shown.p_value:.2g})"
    )
    want = f"a change of at most {wanted.rate:.0%}, or p ≥ {wanted.alpha:g}"
    return CheckResult("expect_rate_near_reference", name, "warn", not told, observed, want)


def _category_result(mixes: Sequence[tuple[int, Distance]], wanted: Thresholds) -> CheckResult:
    told = [(n, d) for n, d in mixes if d.shift > wanted.shift and d.p_value < wanted.alpha]
    length, shown = min(told or mixes, key=lambda pair: pair[1].p_value)
    observed = f"total variation {shown.shift:.4g} over {_days(length)} (p {shown.p_value:.2g})"
    want = f"at most {wanted.shift:g}, or p ≥ {wanted.alpha:g}"
    return CheckResult("expect_distribution_near_reference", CATEGORIES, "warn", not told, observed, want)


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"
