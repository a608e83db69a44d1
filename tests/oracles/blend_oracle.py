"""Contributions as plain numpy formulas."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Bools, Floats
from serving.scoring.contributions import CLIP


def standardize(values: Floats, scales: Floats, centred: Bools) -> Floats:
    """Scale the signals of one list: subtract the mean if `centred`, divide, clip; NaN becomes 0."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    means = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    scaled = (filled - np.where(centred, means, 0.0)) / scales
    return np.where(known, np.clip(scaled, -CLIP, CLIP), 0.0)
