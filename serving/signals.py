"""Signals: one pure function from what is known to a matrix, the same while serving and while evaluating.

Each family returns ``(n, width)`` columns; a value that cannot be known is nan, and the blend takes nan as
neutral. Formulas are those of docs/ranking.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from serving.attributes import Floats
from serving.items import LAST_ITEMS, ItemRows

Row = Mapping[str, Any]
"""A feature row: feature names to values (`feature_repo/groups/*`)."""

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

MIN_CTR = 1e-4
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
    n = len(scores)
    order = 1.0 - np.arange(n) / max(n - 1, 1)
    if n == 0 or None in scores:
        return order
    values = np.asarray(scores, np.float64)
    low = values.min()
    with np.errstate(over="ignore"):
        spread = values.max() / 2 - low / 2  # halves: the spread of finite scores may overflow
    return (values / 2 - low / 2) / spread if spread > 0 else order


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
    item_ids: Sequence[str], scores: Sequence[float | None], rows: ItemRows, known: Known, now_ms: int
) -> SignalMatrix:
    """All signals of a request.

    Args:
        item_ids: the candidates, in base order.
        scores: their base scores.
        rows: the candidates' features, gathered with `last_items` of the session.
        known: profile rows.
        now_ms: the present (epoch ms).
    """
    n = len(item_ids)
    unknown = rows.rows < 0
    scale = _signed_log(rows.numerics)
    columns = np.concatenate(
        [
            base_scores(scores)[:, None],
            -np.log2(np.arange(n) + 2.0)[:, None],
            np.log(np.maximum(rows.ctr, MIN_CTR))[:, None],
            np.log1p(rows.clicks)[:, None],
            np.log1p(rows.popularity),
            scale,
            _log_odds(rows, known.user),
            _distance(rows, scale, known.user),
            _log_odds(rows, known.segment),
            _session_affinity(rows, known.session),
            _covisit(rows, known.session, now_ms)[:, None],
            _touched(item_ids, known.session, now_ms),
        ],
        axis=1,
    )
    if unknown.any():
        columns[np.ix_(unknown, np.arange(2, columns.shape[1]))] = np.nan
    return SignalMatrix(signal_names(rows.attributes.types, rows.numeric_names), columns)


def _signed_log(values: Floats) -> Floats:
    """log(1 + |x|) with the sign of x: prices, years and counts on one footing."""
    return np.copysign(np.log1p(np.abs(values)), values)


def _per_type(rows: ItemRows, weights: Floats) -> Floats:
    """Sum of value weights over each candidate's values, by attribute type ``(n, types)``."""
    width = len(rows.attributes.types)
    n = len(rows.rows)
    sums: Floats = np.bincount(rows.cells, weights[rows.values], n * width).astype(np.float64, copy=False)
    return sums.reshape(n, width)


def _log_odds(rows: ItemRows, profile: Row | None) -> Floats:
    """Σ log((clicks + 1) / (expected · r + 1)) by attribute type: clicked beyond what anyone would."""
    shape = (len(rows.rows), len(rows.attributes.types))
    keys = (profile or {}).get("attr_keys")
    if profile is None or not keys:
        return np.full(shape, np.nan)
    clicks = np.asarray(profile["attr_clicks"], np.float64)
    expected = np.asarray(profile["attr_expected"], np.float64)
    rate = profile.get("click_rate")
    odds = np.log((clicks + 1.0) / (expected * (1.0 if rate is None else rate) + 1.0))
    return _per_type(rows, rows.attributes.spread(keys, odds))


def _distance(rows: ItemRows, scaled: Floats, profile: Row | None) -> Floats:
    """Distance to the median of what the user engaged with, per numeric attribute, on the log scale."""
    keys = (profile or {}).get("numeric_keys")
    if profile is None or not keys:
        return np.full(scaled.shape, np.nan)
    medians = dict(zip(keys, profile["numeric_medians"], strict=True))
    wanted = np.array([medians.get(name, np.nan) for name in rows.numeric_names], np.float64)
    return np.abs(scaled - _signed_log(wanted))


def _ramp(session: Row) -> float:
    """Weight of a session by the items it touched: none at zero, half at `RAMP`."""
    touched = len(session.get("item_ids") or ())
    return touched / (touched + RAMP)


def _session_affinity(rows: ItemRows, session: Row | None) -> Floats:
    """Σ log((weight + 1) / (total · share + 1)) by attribute type, growing with the session."""
    attributes = rows.attributes
    keys = (session or {}).get("attr_keys")
    if session is None or not keys:
        return np.full((len(rows.rows), len(attributes.types)), np.nan)
    weights = attributes.spread(keys, np.asarray(session["attr_weights"], np.float64))
    totals = np.bincount(attributes.type_of, weights, len(attributes.types))
    expected = totals[attributes.type_of] * attributes.share
    return _per_type(rows, np.log((weights + 1.0) / (expected + 1.0))) * _ramp(session)


def _covisit(rows: ItemRows, session: Row | None, now_ms: int) -> Floats:
    """Mean of log((c + 3p) / ((n + 3) p)) over the last items, newest most, growing with the session.

    How much more often than its share `p` of all engagement the candidate goes with what was touched.
    """
    times = (session or {}).get("item_times_ms")
    if session is None or times is None or not rows.together.shape[1]:
        return np.full(len(rows.rows), np.nan)
    ages_s = (now_ms - np.asarray(times[: rows.together.shape[1]], np.float64)) / 1000.0
    decay = np.exp2(-np.maximum(ages_s, 0.0) / COVISIT_HALF_LIFE_S)
    share = rows.share[:, None]
    lift = np.log((rows.together + COVISIT_PRIOR * share) / ((rows.sessions + COVISIT_PRIOR) * share))
    return (lift @ decay) / max(float(decay.sum()), 1e-9) * _ramp(session)


def _touched(item_ids: Sequence[str], session: Row | None, now_ms: int) -> Floats:
    """Whether the session touched the candidate already, and how recently (1 now, halved every 10 min)."""
    columns = np.zeros((len(item_ids), 2))
    touched = (session or {}).get("item_ids")
    if session is None or not touched:
        return columns
    times = dict(zip(touched, session["item_times_ms"], strict=True))
    for i in [i for i, item_id in enumerate(item_ids) if item_id in times]:
        age_s = max(now_ms - times[item_ids[i]], 0) / 1000.0
        columns[i] = 1.0, 0.5 ** (age_s / TOUCH_HALF_LIFE_S)
    return columns
