"""What each signal adds to each score: one compiled loop over the matrix of signals."""

from __future__ import annotations

import math

import numpy as np

from serving.attributes import Bools, Floats
from serving.compiled import compiled

CLIP = 6.0
"""Standardized signals are cut at this many scales."""


@compiled
def contributed(
    values: Floats, scales: Floats, weights: Floats, centred: Bools, parts: bool
) -> tuple[Floats, Floats]:
    """``clip((x - mean) / scale, ±6) · weight`` of every signal; the sum of every row, from left to right.

    Args:
        values: signals ``(n, k)``; nan adds nothing.
        scales, weights: by signal, scales not zero ``(k,)``.
        centred: which signals count from the mean of what is known of them in this list ``(k,)``.
        parts: whether the contributions are wanted, beside their sums.

    Returns:
        contributions ``(n, k)``, or ``(0, k)``, and scores ``(n,)``.
    """
    n, k = values.shape
    out, sums = np.empty((n if parts else 0, k)), np.empty(n)
    means, counts = np.zeros(k), np.zeros(k)
    for i in range(n):
        for j in range(k):
            value = values[i, j]
            known = not math.isnan(value)
            means[j] += value if known else 0.0
            counts[j] += 1.0 if known else 0.0
    for j in range(k):
        means[j] = means[j] / max(counts[j], 1.0) if centred[j] else 0.0
    for i in range(n):
        total = 0.0
        for j in range(k):
            scaled = (values[i, j] - means[j]) / scales[j]
            scaled = CLIP if scaled > CLIP else scaled
            scaled = -CLIP if scaled < -CLIP else scaled
            # Adding zero makes of -0 a 0.
            part = (0.0 if math.isnan(values[i, j]) else scaled * weights[j]) + 0.0
            total += part
            if parts:
                out[i, j] = part
        sums[i] = total
    return out, sums
