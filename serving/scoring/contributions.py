"""Contributions of signals to scores: one compiled loop over the signal matrix."""

from __future__ import annotations

import math

import numpy as np

from feature_repo.arrays import Bools, Floats, Ints
from serving.scoring.compiled import compiled

CLIP = 6.0
"""Standardized signals are clipped to this many scales."""
TOGETHER = 8
"""Number of columns that are summed together."""


def contributed(
    values: Floats, columns: Ints, scales: Floats, weights: Floats, centred: Bools, parts: bool
) -> tuple[Floats, Floats]:
    """Compute ``clip((x - mean) / scale, ±6) · weight`` of every signal, and their sum from left to right.

    Args:
        values: candidates by columns ``(n, …)``, ideally with contiguous columns; nan contributes nothing.
        columns: column of each signal in `values` ``(k,)``.
        scales, weights: by signal ``(k,)``; scales are not zero.
        centred: whether to centre each signal on the mean of its known values in this list ``(k,)``.
        parts: whether to return the contributions, not only their sums.

    Returns:
        Contributions ``(n, k)``, or ``(0, k)`` without `parts`, and scores ``(n,)``.
    """
    n, k = len(values), len(columns)
    out, sums = np.empty((n if parts else 0, k)), np.empty(n)
    by_signal = np.ascontiguousarray(values.T)  # does not copy what `signals` returns
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
    """Fill the contributions, unless `out` is empty, and the scores.

    Args:
        scratch: zeros ``(2, k)``, for the sum and the count of each signal.
    """
    # Sum several columns together: additions to one sum wait for each other, those to several do not.
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
            # Adding zero turns -0 into 0.
            sums[i] += (0.0 if math.isnan(row[i]) else scaled * weight) + 0.0
        for i in range(len(out)):
            scaled = min(max((row[i] - mean) / scale, -CLIP), CLIP)
            out[i, j] = (0.0 if math.isnan(row[i]) else scaled * weight) + 0.0
