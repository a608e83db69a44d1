"""What each signal adds to each score: one compiled loop over the matrix of signals."""

from __future__ import annotations

import math

import numpy as np

from feature_repo.arrays import Bools, Floats, Ints
from serving.scoring.compiled import compiled

CLIP = 6.0
"""Standardized signals are cut at this many scales."""


TOGETHER = 8
"""Columns that are summed at a time."""


def contributed(
    values: Floats, columns: Ints, scales: Floats, weights: Floats, centred: Bools, parts: bool
) -> tuple[Floats, Floats]:
    """``clip((x - mean) / scale, ±6) · weight`` of every signal; the sum of every row, from left to right.

    Args:
        values: candidates by columns ``(n, …)``, best with each column contiguous; nan adds nothing.
        columns: of `values`, where each of the signals is ``(k,)``.
        scales, weights: by signal, scales not zero ``(k,)``.
        centred: which signals count from the mean of what is known of them in this list ``(k,)``.
        parts: whether the contributions are wanted, beside their sums.

    Returns:
        contributions ``(n, k)``, or ``(0, k)``, and scores ``(n,)``.
    """
    n, k = len(values), len(columns)
    out, sums = np.empty((n if parts else 0, k)), np.empty(n)
    by_signal = np.ascontiguousarray(values.T)  # no copy of what `signals` returns
    _contribute(out, sums, by_signal, columns, scales, weights, centred, np.zeros((2, k)))
    return out, sums


@compiled
def _contribute(
    out: Floats,
    sums: Floats,
    values: Floats,
    columns: Ints,
    scales: Floats,
    weights: Floats,
    centred: Bools,
    scratch: Floats,
) -> None:
    """Fill the contributions, where there is room for them, and the scores.

    Args:
        scratch: zeros, for the mean and the count of each signal ``(2, k)``.
    """
    # Some columns at a time: the sums of one column wait for each other, those of several do not.
    for first in range(0, len(scales), TOGETHER):
        for i in range(len(sums)):
            for j in range(first, min(first + TOGETHER, len(scales))):
                value = values[columns[j], i]
                known = not math.isnan(value)
                scratch[0, j] += value if known else 0.0
                scratch[1, j] += 1.0 if known else 0.0
    for i in range(len(sums)):
        sums[i] = 0.0
    for j in range(len(scales)):
        row, scale, weight = values[columns[j]], scales[j], weights[j]
        mean = scratch[0, j] / max(scratch[1, j], 1.0) if centred[j] else 0.0
        for i in range(len(row)):
            scaled = min(max((row[i] - mean) / scale, -CLIP), CLIP)
            # Adding zero makes of -0 a 0.
            sums[i] += (0.0 if math.isnan(row[i]) else scaled * weight) + 0.0
        for i in range(len(out)):
            scaled = min(max((row[i] - mean) / scale, -CLIP), CLIP)
            out[i, j] = (0.0 if math.isnan(row[i]) else scaled * weight) + 0.0
