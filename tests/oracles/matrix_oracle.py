"""The matrix of signals as plain NumPy formulas, a family at a time."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.items.item_attributes import Occurrences
from serving.items.item_neighbours import Neighbours
from serving.scoring.signal import RAMP, Asked, Leaning, Taste
from serving.scoring.signals import covisit, touch


def matrix(asked: Asked) -> dict[str, Floats]:
    """Values by signal ``(members, n)``, before candidates that are no known item are set to nan."""
    rows, items = asked.rows, asked.rows.attributes.occurrences
    alone = rows.alone[rows.places].T
    touched = len(rows.touched)
    ramp = touched / (touched + RAMP)
    touches = _touched(rows.rows, asked)
    return {
        "base": asked.base[None],
        "position": -np.log2(np.arange(len(asked)) + 2.0)[None],
        "log_ctr": alone[:1],
        "log_clicks": alone[1:2],
        "popularity": alone[2:5],
        "log_debiased": alone[5:6],
        "log_age": alone[6:7],
        "log_purchases": alone[7:8],
        "numeric": alone[8:],
        "log_odds": _summed(rows.rows, items, _odds(items, asked.user)).T,
        "distance": np.abs(alone[8:] - asked.user.medians[:, None]),
        "segment_log_odds": _summed(rows.rows, items, _odds(items, asked.segment)).T,
        "session_affinity": _summed(rows.rows, items, _affinities(items, asked.session)).T * ramp,
        "covisit": _covisits(asked)[None] * ramp,
        "covisit_last": _together(asked, 1),
        "covisit_recent": _together(asked, 3),
        "next_last": _following(asked, 1),
        "next_recent": _following(asked, 3),
        "touched": touches[:1],
        "touched_recently": touches[1:2],
        "touch_rank": touches[2:3],
        "last_touched": (touches[2:3] == 1.0).astype(float),
        "below_last": _from_last(touches[2], 1),
        "above_last": _from_last(touches[2], -1),
        "position_untouched": np.zeros((1, len(asked)))
        if touches[0].any()
        else -np.log2(np.arange(len(asked)) + 2.0)[None],
        "content_last": _alike(asked, 1),
        "content_recent": _alike(asked, 3),
        "distance_last": np.abs(alone[8:] - rows.last_numerics[:, None])
        if touched
        else np.full(alone[8:].shape, np.nan),
    }


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


def _covisits(asked: Asked) -> Floats:
    rows = asked.rows
    if not len(rows.sessions):
        return np.full(len(asked), np.nan)
    ages_s = (asked.now_ms - asked.times_ms[: len(rows.sessions)]) / 1000.0
    decay = np.exp2(-np.maximum(ages_s, 0.0) / covisit.HALF_LIFE_S)
    share = rows.share[rows.places][:, None]
    ratio = (rows.together + covisit.PRIOR * share) / ((rows.sessions + covisit.PRIOR) * share)
    mean: Floats = (np.log(ratio) @ decay) / max(float(decay.sum()), 1e-9)
    return mean


def _touched(rows: Ints, asked: Asked) -> Floats:
    out = np.zeros((3, len(rows)))
    order = {row: place for place, row in reversed(list(enumerate(asked.rows.touched.tolist())))}
    times = dict(zip(asked.rows.touched.tolist(), asked.times_ms.tolist(), strict=True))
    for i, row in enumerate(rows.tolist()):
        if row >= 0 and row in times:
            age_s = max(asked.now_ms - times[row], 0) / 1000
            out[:, i] = 1.0, 0.5 ** (age_s / touch.HALF_LIFE_S), 1 / (1 + order[row])
    return out


def _together(asked: Asked, last: int) -> Floats:
    rows = asked.rows
    if not len(rows.sessions):
        return np.full((1, len(asked)), np.nan)
    share = rows.share[rows.places][:, None]
    odds = (rows.together + covisit.PRIOR * share) / (rows.sessions + covisit.PRIOR)
    mean: Floats = np.log(odds[:, :last]).mean(axis=1)[None]
    return mean


def _following(asked: Asked, last: int) -> Floats:
    rows, out = asked.rows, np.full((1, len(asked)), np.nan)
    counts, totals = rows.steps()
    for i, place in enumerate(rows.places.tolist()):
        chances = [
            np.log((counts[i, s] + 3 * rows.share[place]) / (totals[s] + 3))
            for s in range(min(last, len(totals)))
        ]
        if chances:
            out[0, i] = sum(chances) / len(chances)
    return out


def _from_last(ranks: Floats, way: int) -> Floats:
    last = np.flatnonzero(ranks == 1.0)
    if not len(last):
        return np.zeros((1, len(ranks)))
    steps = (np.arange(len(ranks)) - last[0]) * way
    return np.where(steps > 0, 1.0 / np.maximum(steps, 1), 0.0)[None]


def _alike(asked: Asked, last: int) -> Floats:
    touched = asked.rows.touched[:last].tolist()
    if not touched:
        return np.full((1, len(asked)), np.nan)
    items = asked.rows.attributes.occurrences
    pairs = [[_cosine(items, row, last) for last in touched] for row in asked.rows.rows.tolist()]
    return np.array(pairs).reshape(len(asked), len(touched)).mean(axis=1)[None]


def _cosine(items: Occurrences, a: int, b: int) -> float:
    if a < 0 or b < 0:
        return 0.0
    weigh = np.log(items.share) ** 2
    of_a, of_b = (items.values[items.offsets[row] : items.offsets[row + 1]].tolist() for row in (a, b))
    both = sum(weigh[v] for v in of_a if v in of_b)
    return both / max(float(np.sqrt(weigh[of_a].sum() * weigh[of_b].sum())), 1e-9)


def together(rows: Ints, last: Ints, neighbours: Neighbours) -> Floats:
    """What `Neighbours.together` finds."""
    out = np.zeros((len(rows), len(last)))
    for s, item in enumerate(last.tolist()):
        if item >= 0:
            span = slice(*neighbours.offsets[item : item + 2].tolist())
            counts = neighbours.counts[span].tolist()
            found = dict(zip(neighbours.items[span].tolist(), counts, strict=True))
            out[:, s] = [found.get(row, 0.0) for row in rows.tolist()]
    return out
