"""Ranking metrics over many lists at once, with confidence intervals.

Lists are ragged: list ``i`` is the slice ``offsets[i] … offsets[i + 1]`` of every flat array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import stats

from feature_repo.arrays import Bools, Floats, Ints

CUTOFF = 10
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval; NaN if there is nothing to average."""

    mean: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Return whether the whole interval is above zero."""
        return self.low > 0.0


def mean_interval(values: Floats) -> Interval:
    """Return the mean with Student's 95 % interval; a single value has infinite bounds."""
    n = len(values)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def paired_interval(values: Floats, others: Floats) -> Interval:
    """Return the interval of the difference of two rankers on the same lists."""
    return mean_interval(values - others)


def positions_of(scores: Floats, offsets: Ints) -> Ints:
    """Return each entry's position within its list, best score first, from 0; ties keep the given order."""
    lengths = np.diff(offsets)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((-scores, owner))
    positions = np.empty(len(scores), np.intp)
    positions[order] = np.arange(len(scores)) - offsets[:-1][owner]
    return positions


def ndcg(positions: Ints, relevant: Bools, offsets: Ints, cutoff: int = CUTOFF) -> Floats:
    """Compute each list's NDCG: binary gains, discount 1 / log2(position + 2) (Järvelin & Kekäläinen 2002).

    A list without relevant items is NaN.
    """
    owner = _owner(offsets)
    gains = np.where(relevant & (positions < cutoff), 1.0 / np.log2(positions + 2.0), 0.0)
    count = _per_list(relevant.astype(np.float64), owner, offsets)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(cutoff) + 2.0))])
    best = ideal[np.minimum(count, cutoff).astype(np.intp)]
    return _ratio(_per_list(gains, owner, offsets), best)


def reciprocal_rank(positions: Ints, relevant: Bools, offsets: Ints) -> Floats:
    """Return 1 / (position + 1) of the first relevant item of each list; NaN without one."""
    reciprocal = np.where(relevant, 1.0 / (positions + 1.0), 0.0)
    best = np.zeros(len(offsets) - 1)
    np.maximum.at(best, _owner(offsets), reciprocal)
    return np.where(best > 0, best, np.nan)


def hits(positions: Ints, relevant: Bools, offsets: Ints, cutoff: int = CUTOFF) -> Floats:
    """Return 1 if a relevant item is among the first `cutoff`, else 0; NaN if a list has no relevant item."""
    owner = _owner(offsets)
    found = _per_list((relevant & (positions < cutoff)).astype(np.float64), owner, offsets) > 0
    any_relevant = _per_list(relevant.astype(np.float64), owner, offsets) > 0
    return np.where(any_relevant, found.astype(np.float64), np.nan)


def average_precision(positions: Ints, relevant: Bools, offsets: Ints, cutoff: int = CUTOFF) -> Floats:
    """Precision at each relevant item among the first `cutoff`, summed, over min(relevant, cutoff).

    A list without relevant items is nan.

    Manning, Raghavan & Schütze 2008, section 8.4, with a cutoff.
    """
    owner = _owner(offsets)
    found = np.flatnonzero(relevant & (positions < cutoff))
    order = found[np.lexsort((positions[found], owner[found]))]
    lists = owner[order]
    first = np.searchsorted(lists, lists)
    precision = (np.arange(len(order)) - first + 1) / (positions[order] + 1.0)
    total = np.minimum(_per_list(relevant.astype(np.float64), owner, offsets), cutoff)
    return _ratio(np.asarray(np.bincount(lists, precision, len(offsets) - 1), np.float64), total)


def recall(positions: Ints, relevant: Bools, offsets: Ints, cutoff: int = CUTOFF) -> Floats:
    """Share of the relevant items among the first `cutoff`; nan for a list without relevant items."""
    owner = _owner(offsets)
    found = _per_list((relevant & (positions < cutoff)).astype(np.float64), owner, offsets)
    return _ratio(found, _per_list(relevant.astype(np.float64), owner, offsets))


def precision(positions: Ints, relevant: Bools, offsets: Ints, cutoff: int = CUTOFF) -> Floats:
    """Share of the first `cutoff` that is relevant, also of a shorter list; nan without relevant items."""
    owner = _owner(offsets)
    found = _per_list((relevant & (positions < cutoff)).astype(np.float64), owner, offsets)
    any_relevant = _per_list(relevant.astype(np.float64), owner, offsets) > 0
    return np.where(any_relevant, found / cutoff, np.nan)


METRICS: Mapping[str, Callable[[Ints, Bools, Ints], Floats]] = MappingProxyType(
    {
        "ndcg": ndcg,
        "mrr": reciprocal_rank,
        "map": average_precision,
        "hit": hits,
        "recall": recall,
        "precision": precision,
    }
)
"""Metrics of a list by name, at a cutoff of 10 (but `mrr`, which has none)."""


def coverage(items: Ints, positions: Ints, cutoff: int = CUTOFF) -> float:
    """Return the share of all offered items that some list shows among its first `cutoff`."""
    offered = len(np.unique(items))
    return len(np.unique(items[positions < cutoff])) / offered if offered else float("nan")


def coverage_interval(
    items: Ints, positions: Ints, offsets: Ints, *, cutoff: int = CUTOFF, seed: int = 0, draws: int = 200
) -> Interval:
    """Return coverage with the spread of a bootstrap over lists, centred on the value itself.

    Resampled lists repeat and so cover less than the original ones; only the spread is used.
    """
    value = coverage(items, positions, cutoff)
    n = len(offsets) - 1
    offered, number = np.unique(items, return_inverse=True)
    shown = positions < cutoff
    owner, shown_items = _owner(offsets)[shown], number[shown]
    generator = np.random.default_rng(seed)
    found = np.empty(draws)
    for draw in range(draws):
        drawn = np.bincount(generator.integers(0, n, n), minlength=n) > 0
        found[draw] = len(np.unique(shown_items[drawn[owner]])) / max(len(offered), 1)
    low, high = np.quantile(found, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]) - found.mean()
    return Interval(value, max(value + float(low), 0.0), min(value + float(high), 1.0))


def _owner(offsets: Ints) -> Ints:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _per_list(values: Floats, owner: Ints, offsets: Ints) -> Floats:
    return np.asarray(np.bincount(owner, values, len(offsets) - 1), np.float64)


def _ratio(value: Floats, total: Floats) -> Floats:
    shares: Floats = np.full(len(value), np.nan)
    np.divide(value, total, out=shares, where=total > 0)
    return shares
