"""Distances between two samples: population stability index, Kolmogorov–Smirnov, chi-square.

Pure NumPy and SciPy. Every measure comes with its chance level at these sample sizes, so that small samples
raise no false alarms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from feature_repo.arrays import Floats

BINS = 10
TOP = 20
"""Categories compared individually, by frequency in the reference; the rest form one category."""

Labels: TypeAlias = Sequence[Any] | Mapping[Any, float]


@dataclass(frozen=True)
class Distance:
    """Distance of a current sample from a reference.

    Attributes:
        psi: population stability index, natural logarithm: 0 is equal, 0.1 small, 0.2 a change.
        psi_chance: the level it stays below by chance with probability 1 − alpha.
        shift: Kolmogorov–Smirnov's D of numbers, total variation of categories: 0 … 1.
        p_value: probability of such a shift between equal distributions (Kolmogorov–Smirnov, chi-square).
    """

    psi: float
    psi_chance: float
    shift: float
    p_value: float


def numeric_distance(
    reference: Floats, current: Floats, alpha: float, rows: tuple[int, int] | None = None
) -> Distance:
    """Measure the distance of numbers, binned at the reference's deciles (fewer bins if values repeat).

    Args:
        rows: independent rows behind each sample, if a row has several values (lists); default: its size.
    """
    counted = rows or (len(reference), len(current))
    edges = _edges(reference)
    found = [
        np.bincount(np.searchsorted(edges, s, side="left"), minlength=len(edges) + 1)
        for s in (reference, current)
    ]
    psi, chance = _psi(found[0], found[1], alpha, counted)
    shift = float(stats.ks_2samp(reference, current, method="asymp").statistic)
    effective = np.sqrt(counted[0] * counted[1] / (counted[0] + counted[1]))
    return Distance(psi, chance, shift, float(stats.kstwobign.sf(shift * effective)))


def category_distance(
    reference: Labels, current: Labels, alpha: float, rows: tuple[int, int] | None = None
) -> Distance:
    """Measure the distance of labels (or of counts by label): the reference's most frequent and the rest."""
    counted = rows or (len(reference), len(current))
    table = np.array(tallies(reference, current)[1:], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]  # chi-square needs a nonzero count in each column
    psi, chance = _psi(table[0], table[1], alpha, counted)
    shares = table / table.sum(axis=1, keepdims=True)
    shift = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if table.shape[1] == 1:
        return Distance(psi, chance, shift, 1.0)
    scaled = shares * np.array(counted, dtype=np.float64)[:, None]
    p_value = float(stats.chi2_contingency(scaled, correction=False).pvalue)
    return Distance(psi, chance, shift, p_value)


def tallies(reference: Labels, current: Labels) -> tuple[list[str], list[float], list[float]]:
    """Return labels (the reference's top ones and ``other``) with their counts in both samples."""
    before, after = Counter(reference), Counter(current)
    top = dict(sorted(before.items(), key=lambda pair: (-pair[1], str(pair[0])))[:TOP])
    rest = [sum(n for label, n in c.items() if label not in top) for c in (before, after)]
    return (
        [*(str(label) for label in top), "other"],
        [*(before[label] for label in top), rest[0]],
        [*(after[label] for label in top), rest[1]],
    )


def _edges(reference: Floats) -> Floats:
    """Return inner bin edges at the deciles; a value that spans several deciles gets its own bin."""
    deciles = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    return (
        np.unique(np.concatenate([deciles, np.nextafter(deciles, -np.inf)]))
        if _repeats(reference)
        else deciles
    )


def _repeats(reference: Floats) -> bool:
    return len(np.unique(reference)) < len(reference) / 2


def _psi(
    reference: NDArray[Any], current: NDArray[Any], alpha: float, rows: tuple[int, int]
) -> tuple[float, float]:
    """Return PSI and its (1 − alpha) quantile under equality: χ² of B − 1 degrees times 1/n + 1/m.

    Source of the quantile: Yurdakul, *Statistical Properties of Population Stability Index* (2018).
    """
    bins = len(reference)
    # Half a row per bin keeps PSI finite if a bin is empty.
    p = (reference + 0.5) / (reference.sum() + 0.5 * bins)
    q = (current + 0.5) / (current.sum() + 0.5 * bins)
    psi = float(np.sum((q - p) * np.log(q / p)))
    chance = float(stats.chi2.isf(alpha, max(bins - 1, 1)) * (1 / rows[0] + 1 / rows[1]))
    return psi, chance


def share_chance(shares: tuple[float, float], rows: tuple[int, int], alpha: float) -> float:
    """Return the difference of two equal shares that chance exceeds with probability alpha.

    The two-proportion z-test with the pooled share; infinite if a side has no rows.
    """
    if min(rows) == 0:
        return math.inf
    pooled = (shares[0] * rows[0] + shares[1] * rows[1]) / sum(rows)
    spread = pooled * (1 - pooled) * (1 / rows[0] + 1 / rows[1])
    return float(stats.norm.isf(alpha / 2) * math.sqrt(spread))
