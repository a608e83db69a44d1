"""The matrix of signals as plain numpy formulas, a family at a time."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.items.item_attributes import Occurrences
from serving.scoring.signal_matrix import (
    COVISIT_HALF_LIFE_S,
    COVISIT_PRIOR,
    RAMP,
    TOUCH_HALF_LIFE_S,
    Candidates,
    Leaning,
    Taste,
    Trail,
)


def matrix(
    candidates: Candidates, items: Occurrences, tastes: tuple[Taste, Taste], leaning: Leaning, trail: Trail
) -> Floats:
    """What `serving.scoring.signal_matrix.fill` fills."""
    rows, m = candidates.rows, len(tastes[0].medians)
    alone = candidates.alone[candidates.places]
    ramp = len(trail.touched) / (len(trail.touched) + RAMP)
    columns = [
        candidates.base,
        candidates.positions,
        alone,
        _summed(rows, items, _odds(items, tastes[0])),
        np.abs(alone[:, alone.shape[1] - m :] - tastes[0].medians),
        _summed(rows, items, _odds(items, tastes[1])),
        _summed(rows, items, _affinities(items, leaning)) * ramp,
        _covisits(candidates, trail) * ramp,
        _touched(rows, trail),
    ]
    out = np.column_stack(columns)
    out[rows < 0, 2:] = np.nan
    return out


def _odds(items: Occurrences, taste: Taste) -> Floats:
    over_all = np.full(len(items.type_of), 0.0 if taste.known else np.nan)
    over_all[taste.values] = taste.odds
    return over_all


def _affinities(items: Occurrences, leaning: Leaning) -> Floats:
    if not leaning.known:
        return np.full(len(items.type_of), np.nan)
    weights = np.zeros(len(items.type_of))
    weights[leaning.values] = leaning.weights
    totals = np.bincount(items.type_of, weights, items.types)
    odds: Floats = np.log((weights + 1.0) / (totals[items.type_of] * items.share + 1.0))
    return odds


def _summed(rows: Ints, items: Occurrences, odds: Floats) -> Floats:
    """Sums by type; where nothing is known at all, nan also for items without values."""
    out = np.full((len(rows), items.types), np.nan if len(odds) and np.isnan(odds).all() else 0.0)
    for i, row in enumerate(rows.tolist()):
        if row >= 0:
            values = items.values[items.offsets[row] : items.offsets[row + 1]]
            out[i] += np.bincount(items.type_of[values], odds[values], items.types)
    return out


def _covisits(candidates: Candidates, trail: Trail) -> Floats:
    if not len(trail.sessions):
        return np.full(len(candidates.rows), np.nan)
    ages_s = (trail.now_ms - trail.times_ms[: len(trail.sessions)]) / 1000.0
    decay = np.exp2(-np.maximum(ages_s, 0.0) / COVISIT_HALF_LIFE_S)
    share = candidates.share[candidates.places][:, None]
    ratio = (trail.together + COVISIT_PRIOR * share) / ((trail.sessions + COVISIT_PRIOR) * share)
    mean: Floats = (np.log(ratio) @ decay) / max(float(decay.sum()), 1e-9)
    return mean


def _touched(rows: Ints, trail: Trail) -> Floats:
    out = np.zeros((len(rows), 2))
    times = dict(zip(trail.touched.tolist(), trail.times_ms.tolist(), strict=True))
    for i, row in enumerate(rows.tolist()):
        if row >= 0 and row in times:
            out[i] = 1.0, 0.5 ** (max(trail.now_ms - times[row], 0) / 1000 / TOUCH_HALF_LIFE_S)
    return out


def together(rows: Ints, last: Ints, offsets: Ints, neighbours: Ints, counts: Floats) -> Floats:
    """What `serving.scoring.signal_matrix.together` finds."""
    out = np.zeros((len(rows), len(last)))
    for s, item in enumerate(last.tolist()):
        if item >= 0:
            span = slice(*offsets[item : item + 2].tolist())
            found = dict(zip(neighbours[span].tolist(), counts[span].tolist(), strict=True))
            out[:, s] = [found.get(row, 0.0) for row in rows.tolist()]
    return out
