"""Engagements and impressions of a user, or of a segment's users together."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from feature_repo.arrays import Floats, Int64s
from feature_repo.group import CLICK_RATE_PRIOR, SMALLEST_SCORE
from feature_repo.statistics.vocabulary import Vocabulary

_Givers: TypeAlias = "dict[int, dict[Pool, None]]"


_TIE = 2e-9
_CANCELLED = 1e-3
"""When a subtraction leaves less than this share, the rest is summed again, because its digits are lost."""


@dataclass(slots=True, eq=False)  # the givers are told apart by identity
class Pool:
    """Decayed sums by item number, in a scale that the owner divides out.

    Attributes:
        clicks: engagement weight.
        shown: slots shown.
        givers: in a pool of users, the contributors to each entry of `clicks` and of `shown`.
        prices: prices of the distinct items engaged with, ascending.
    """

    clicks: dict[int, float] = field(default_factory=dict)
    shown: dict[int, float] = field(default_factory=dict)
    givers: tuple[_Givers, _Givers] = field(default_factory=lambda: ({}, {}))
    prices: list[float] = field(default_factory=list)

    def engage(self, item: int, amount: float, price: float | None, giver: Pool | None = None) -> None:
        """Count an engagement; `giver` is the pool of its user, if that user may leave."""
        if item not in self.clicks and price is not None:
            insort(self.prices, price)
        self.clicks[item] = self.clicks.get(item, 0.0) + amount
        if giver is not None:
            self.givers[0].setdefault(item, {})[giver] = None

    def show(self, item: int, amount: float, giver: Pool | None = None) -> None:
        """Count a shown slot."""
        self.shown[item] = self.shown.get(item, 0.0) + amount
        if giver is not None:
            self.givers[1].setdefault(item, {})[giver] = None

    def join(self, giver: Pool, prices: Sequence[float | None]) -> None:
        """Add a user's contributions; `prices` by item number."""
        for item, amount in giver.clicks.items():
            self.engage(item, amount, prices[item], giver)
        for item, amount in giver.shown.items():
            self.show(item, amount, giver)

    def leave(self, giver: Pool, prices: Sequence[float | None]) -> None:
        """Subtract a user's contributions; remove entries without other contributors to avoid float dust."""
        for item in giver.clicks:
            if not self._take_back(0, item, giver) and (price := prices[item]) is not None:
                del self.prices[bisect_left(self.prices, price)]
        for item in giver.shown:
            self._take_back(1, item, giver)

    def _take_back(self, which: int, item: int, giver: Pool) -> bool:
        """Subtract from an entry; return whether others still contribute to it."""
        sums = self._sums[which]
        others = self.givers[which][item]
        del others[giver]
        if not others:
            del self.givers[which][item], sums[item]
            return False
        amount = giver._sums[which][item]
        rest = sums[item] - amount
        if rest < _CANCELLED * amount:
            rest = sum(other._sums[which][item] for other in others)
        sums[item] = rest
        return True

    @property
    def _sums(self) -> tuple[dict[int, float], dict[int, float]]:
        return self.clicks, self.shown

    def rescale(self, factor: float) -> None:
        """Multiply every sum by a factor."""
        for sums in self._sums:
            for item in sums:
                sums[item] *= factor


@dataclass(frozen=True)
class Affinity:
    """Decayed clicks and expected clicks per attribute value (numbers, ascending)."""

    attrs: Int64s
    clicks: Floats
    expected: Floats
    click_rate: float


def affinity(pool: Pool, vocabulary: Vocabulary, ctr_of: Any, unit: float, everybody: Floats) -> Affinity:
    """Compute clicks and expected clicks of every attribute value seen.

    Args:
        ctr_of: click-through rates by item number.
        unit: current value of one unit of the pool's scale.
        everybody: clicks of all users by attribute value, in the pool's scale; gives the expectation if
            nothing was shown.
    """
    size = len(vocabulary.keys)
    clicked, clicks = columns(pool.clicks, unit)
    shown, slots = columns(pool.shown, unit)
    attr, source = vocabulary.spread(clicked)
    clicks_by = _summed(attr, clicks[source], size)
    met = np.zeros(size, dtype=bool)
    met[attr] = True
    if not len(shown):
        attrs = np.flatnonzero(met)
        expected_by = _by_share(clicks_by, everybody, vocabulary)
        return Affinity(attrs, clicks_by[attrs], expected_by[attrs], 1.0)
    expected = slots * ctr_of(shown)
    attr, source = vocabulary.spread(shown)
    expected_by = _summed(attr, expected[source], size)
    met[attr] = True
    attrs = np.flatnonzero(met)
    rate = (clicks.sum() + CLICK_RATE_PRIOR) / (expected.sum() + CLICK_RATE_PRIOR)
    return Affinity(attrs, clicks_by[attrs], expected_by[attrs], float(rate))


def _summed(places: Int64s, amounts: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(places, weights=amounts, minlength=size), dtype=np.float64)


def columns(sums: dict[int, float], unit: float) -> tuple[Int64s, Floats]:
    """Return item numbers and their sums in current units."""
    items = np.fromiter(sums.keys(), dtype=np.int64, count=len(sums))
    return items, np.fromiter(sums.values(), dtype=np.float64, count=len(sums)) * unit


def _by_share(clicks: Floats, everybody: Floats, vocabulary: Vocabulary) -> Floats:
    expected = np.zeros_like(clicks)
    for first, end in vocabulary.types.values():
        total = everybody[first:end].sum()
        if total:
            expected[first:end] = everybody[first:end] / total * clicks[first:end].sum()
    return expected


def strength(scores: Floats) -> Floats:
    """Round scores for comparison, so that those within a relative 1e-9 are equal.

    The order of summation then does not decide ties, however far scores have decayed.
    """
    return np.asarray(np.round(np.log(np.maximum(scores, SMALLEST_SCORE)), 9), dtype=np.float64)


def contenders(scores: Floats, limit: int) -> Int64s:
    """Return ascending indices of the `limit` largest scores and those that `strength` may find equal."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    return np.flatnonzero(scores >= least * (1 - _TIE))


def strongest(scores: Floats, limit: int) -> Int64s:
    """Return indices of the `limit` largest scores by `strength`, largest first, ties by index."""
    places = contenders(scores, limit)
    return np.asarray(places[np.argsort(-strength(scores[places]), kind="stable")[:limit]])


def kept(found: Affinity, vocabulary: Vocabulary, limit: int) -> Affinity:
    """Keep the `limit` values of each attribute type with the largest clicks + expected, by number."""
    places: list[Int64s] = []
    scores = found.clicks + found.expected
    for first, end in vocabulary.types.values():
        start, stop = np.searchsorted(found.attrs, (first, end))
        if stop - start <= limit:
            places.append(np.arange(start, stop))
        else:
            places.append(start + np.sort(strongest(scores[start:stop], limit)))
    at = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
    return Affinity(found.attrs[at], found.clicks[at], found.expected[at], found.click_rate)


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """Return a quantile with linear interpolation; `None` if there are no values."""
    if not ascending:
        return None
    place = share * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (ascending[high] - ascending[low]) * (place - low)
