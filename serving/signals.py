"""Signals: one pure function from what is known to a matrix, the same while serving and while evaluating.

A value that cannot be known is nan, and the blend takes nan as neutral. Formulas are those of
docs/ranking.md. What depends on the item alone (`items.alone`) or on a profile alone (`taste_of`) comes
ready: at a hundred candidates calls cost more than arithmetic, so each family here is few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from serving.attributes import Floats
from serving.items import ALONE, LAST_ITEMS, ItemRows
from serving.taste import Row, Taste, Tastes, taste_of

BASE, ITEM, LONG_TERM, SEGMENT, SESSION = "base", "item", "long_term", "segment", "session"
GROUPS = (BASE, ITEM, LONG_TERM, SEGMENT, SESSION)
GROUP_OF = {
    "base": BASE,
    "position": BASE,
    "log_ctr": ITEM,
    "log_clicks": ITEM,
    "popularity": ITEM,
    "numeric": ITEM,
    "log_odds": LONG_TERM,
    "distance": LONG_TERM,
    "segment_log_odds": SEGMENT,
    "session_affinity": SESSION,
    "covisit": SESSION,
    "touched": SESSION,
    "touched_recently": SESSION,
}
"""Group of each family; a signal's family is its name up to the first colon."""

TOUCH_HALF_LIFE_S = 600.0
COVISIT_HALF_LIFE_S = 7200.0
COVISIT_PRIOR = 3.0
RAMP = 1.0
"""Clicks of a session at which its affinities have half their weight."""


@dataclass(frozen=True, slots=True)
class SignalMatrix:
    """``values[i, j]``: signal ``names[j]`` of candidate ``i``; nan where it cannot be known."""

    names: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of who asks, as the rows of the declared groups; `None` where absent or withheld."""

    user: Row | None = None
    segment: Row | None = None
    session: Row | None = None


def group_of(name: str) -> str:
    """Group of a signal."""
    return GROUP_OF[name.partition(":")[0]]


def last_items(session: Row | None) -> tuple[str, ...]:
    """The session's newest items, whose neighbours count."""
    return tuple((session or {}).get("item_ids") or ())[:LAST_ITEMS]


def base_scores(scores: Sequence[float | None]) -> Floats:
    """Base scores within ``[0, 1]``; from the order given where one is missing or all are the same."""
    return _falling(len(scores)) if None in scores else unit_scores(np.asarray(scores, np.float64))


def unit_scores(scores: Floats) -> Floats:
    """`base_scores` where none is missing."""
    if not len(scores):
        return scores
    half = scores / 2  # the spread of finite scores may overflow, that of their halves does not
    half -= half.min()
    spread = half.max()
    return half / spread if spread > 0 else _falling(len(scores))


def _falling(n: int) -> Floats:
    falling: Floats = 1.0 - np.arange(n) / max(n - 1, 1)
    return falling


@lru_cache(maxsize=64)
def signal_names(types: tuple[str, ...], numeric_names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns `signals` returns."""
    return (
        "base",
        "position",
        "log_ctr",
        "log_clicks",
        *(f"popularity:{span}" for span in ("short", "mid", "long")),
        *(f"numeric:{name}" for name in numeric_names),
        *(f"log_odds:{name}" for name in types),
        *(f"distance:{name}" for name in numeric_names),
        *(f"segment_log_odds:{name}" for name in types),
        *(f"session_affinity:{name}" for name in types),
        "covisit",
        "touched",
        "touched_recently",
    )


def signals(
    item_ids: Sequence[str],
    base: Floats,
    rows: ItemRows,
    known: Known,
    now_ms: int,
    *,
    tastes: Tastes = taste_of,
) -> SignalMatrix:
    """All signals of a request.

    Args:
        item_ids: the candidates, in base order.
        base: their `base_scores`.
        rows: the candidates' features, gathered with `last_items` of the session.
        known: profile rows.
        now_ms: the present (epoch ms).
        tastes: `taste_of`, or what remembers it.
    """
    attributes, types, m = rows.attributes, len(rows.attributes.types), len(rows.numeric_names)
    names = signal_names(attributes.types, rows.numeric_names)
    out = np.empty((len(item_ids), len(names)), order="F")
    out[:, 0], out[:, 1] = base, _positions(len(item_ids))
    at = 2 + ALONE + m
    out[:, 2:at] = rows.alone
    user, segment = (
        None if row is None else tastes(row, attributes, rows.numeric_names)
        for row in (known.user, known.segment)
    )
    for width, values in (
        (types, _log_odds(rows, user)),
        (m, _distance(rows, user)),
        (types, _log_odds(rows, segment)),
        (types, _session_affinity(rows, known.session)),
    ):
        out[:, at : at + width] = values
        at += width
    out[:, at] = _covisit(rows, known.session, now_ms)
    _touched(out[:, at + 1 :], item_ids, known.session, now_ms)
    unknown = rows.rows < 0
    if unknown.any():
        out[unknown, 2:] = np.nan
    return SignalMatrix(names, out)


@lru_cache(maxsize=256)
def _positions(n: int) -> Floats:
    falling: Floats = -np.log2(np.arange(n) + 2.0)
    return falling


def _per_type(rows: ItemRows, weights: Floats) -> Floats:
    """Sum of the weights of each candidate's values, by attribute type ``(n, types)``."""
    shape = len(rows.rows), len(rows.attributes.types)
    sums: Floats = np.bincount(rows.cells, weights, shape[0] * shape[1]).astype(np.float64, copy=False)
    return sums.reshape(shape)


def _log_odds(rows: ItemRows, taste: Taste | None) -> Floats | float:
    """Σ `Taste.odds` by attribute type."""
    if taste is None or taste.odds is None:
        return np.nan
    return _per_type(rows, rows.attributes.spread(taste.values, taste.odds)[rows.values])


def _distance(rows: ItemRows, taste: Taste | None) -> Floats | float:
    """Distance to the median of what the user engaged with, per numeric attribute, on the log scale."""
    if taste is None or taste.medians is None:
        return np.nan
    return np.abs(rows.alone[:, ALONE:] - taste.medians)


def _ramp(session: Row) -> float:
    """Weight of a session by the items it touched: none at zero, half at `RAMP`."""
    touched = len(session.get("item_ids") or ())
    return touched / (touched + RAMP)


def _session_affinity(rows: ItemRows, session: Row | None) -> Floats | float:
    """Σ log((weight + 1) / (total · share + 1)) by attribute type, growing with the session."""
    attributes = rows.attributes
    if session is None or not (keys := session.get("attr_keys")):
        return np.nan
    numbers, found = attributes.numbers(keys)
    weights = attributes.spread(numbers, np.asarray(session["attr_weights"], np.float64)[found])
    numbers.sort()
    totals = np.bincount(attributes.type_of[numbers], weights[numbers], len(attributes.types))
    # Only the values that candidates have are looked at, however many there are.
    expected = totals[attributes.type_of[rows.values]] * attributes.share[rows.values]
    odds = np.log((weights[rows.values] + 1.0) / (expected + 1.0))
    return _per_type(rows, odds) * _ramp(session)


def _covisit(rows: ItemRows, session: Row | None, now_ms: int) -> Floats | float:
    """Mean of log((c + 3p) / ((n + 3) p)) over the last items, newest most, growing with the session.

    How much more often than its share `p` of all engagement the candidate goes with what was touched.
    """
    count = rows.together.shape[1]
    if session is None or not count or (times := session.get("item_times_ms")) is None:
        return np.nan
    ages_s = (now_ms - np.asarray(times[:count], np.float64)) / 1000.0
    decay = np.exp2(-np.maximum(ages_s, 0.0) / COVISIT_HALF_LIFE_S)
    share = rows.share[:, None]
    lift = np.log((rows.together + COVISIT_PRIOR * share) / ((rows.sessions + COVISIT_PRIOR) * share))
    mean: Floats = (lift @ decay) / max(float(decay.sum()), 1e-9) * _ramp(session)
    return mean


def _touched(out: Floats, item_ids: Sequence[str], session: Row | None, now_ms: int) -> None:
    """Whether the session touched the candidate already, and how recently (1 now, halved every 10 min)."""
    out.fill(0.0)
    if session is None or not (touched := session.get("item_ids")):
        return
    times = dict(zip(touched, session["item_times_ms"], strict=True))
    for i in [i for i, item_id in enumerate(item_ids) if item_id in times]:
        age_s = max(now_ms - times[item_ids[i]], 0) / 1000.0
        out[i] = 1.0, 0.5 ** (age_s / TOUCH_HALF_LIFE_S)
