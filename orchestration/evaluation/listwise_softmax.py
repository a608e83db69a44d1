"""Fits a linear listwise softmax: NumPy in, weights out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from feature_repo.arrays import Bools, Float32s, Floats, Ints
from serving.scoring.contributions import CLIP

RIDGE = 30.0
MIN_SCALE = 1e-9
_MAX_ITERATIONS = 200
_TOLERANCE = 1e-7


def scales_of(values: Float32s, offsets: Ints, centred: Bools) -> Floats:
    """Return each signal's scale: its root mean square within lists; 0 for a constant signal.

    Args:
        values: ``(places, k)``, NaN where unknown.
        offsets: bounds of the lists, none of them empty.
        centred: whether each signal is measured from the mean of its list.
    """
    deviations, known = _deviations(values, offsets, centred)
    scales = np.sqrt(np.square(deviations).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    return np.where(scales > MIN_SCALE, scales, 0.0)


def standardized(values: Float32s, offsets: Ints, centred: Bools, scales: Floats) -> Floats:
    """Scale all lists' signals as `serving.scoring.contributions` does; a constant signal (scale 0) is 0."""
    deviations, _ = _deviations(values, offsets, centred)
    deviations /= np.where(scales > 0, scales, np.inf)
    return np.clip(deviations, -CLIP, CLIP, out=deviations)


def _deviations(values: Float32s, offsets: Ints, centred: Bools) -> tuple[Floats, Bools]:
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0).astype(np.float64)
    starts = offsets[:-1]
    counts = np.add.reduceat(known.astype(np.float64), starts, axis=0)
    means = np.add.reduceat(filled, starts, axis=0) / np.maximum(counts, 1.0)
    means[:, ~centred] = 0.0
    filled -= np.repeat(means, np.diff(offsets), axis=0)
    filled *= known
    return filled, known


def fit_softmax(signals: Floats, relevant: Bools, offsets: Ints, ridge: float = RIDGE) -> Floats:
    """Minimize Σ_lists Σ_relevant −log softmax(w·x) + ridge/2 · |w|² over the weights (ListNet's top-one
    loss, Cao et al. 2007, over each relevant item).

    Args:
        signals: standardized, ``(places, k)``.
        relevant: ``(places,)``; lists without relevant items add nothing.
        offsets: bounds of the lists, none of them empty.
    """
    starts = offsets[:-1]
    owner = np.repeat(np.arange(len(starts)), np.diff(offsets))
    gains = relevant.astype(np.float64)
    counts = np.bincount(owner, gains, len(starts))

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = signals @ weights
        top = np.maximum.reduceat(scores, starts)
        odds = np.exp(scores - top[owner])
        totals = np.add.reduceat(odds, starts)
        value = counts @ (np.log(totals) + top) - gains @ scores + ridge / 2 * weights @ weights
        gradient = signals.T @ (counts[owner] * odds / totals[owner] - gains) + ridge * weights
        return float(value), gradient

    start = np.zeros(signals.shape[1])
    if not len(starts):
        return start
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS, "ftol": _TOLERANCE}
    )
    return np.asarray(found.x, np.float64)
