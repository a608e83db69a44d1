"""Signals: one pure function from what is known to a matrix, the same while serving and while evaluating.

A value that cannot be known is nan, and the blend takes nan as neutral. Formulas are those of
docs/ranking.md. What depends on the item alone (`items.alone`) or on a row alone
(`serving/scoring/profile_signals.py`) comes ready; the rest is one compiled loop
(`serving/scoring/signal_matrix.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from msgspec import Struct

from feature_repo.arrays import Floats
from serving.items.item_rows import ItemRows
from serving.scoring.profile_signals import Row, Tastes
from serving.scoring.signal_matrix import Candidates, Trail, fill

RECKONED = Tastes()


class SignalMatrix(Struct, frozen=True, eq=False):
    """``values[i, j]``: signal ``names[j]`` of candidate ``i``; nan where it cannot be known."""

    names: tuple[str, ...]
    values: Floats


class Known(Struct, frozen=True, eq=False):
    """What is known of who asks, as the rows of the declared groups; `None` where absent or withheld."""

    user: Row | None = None
    segment: Row | None = None
    session: Row | None = None


def touched_items(session: Row | None) -> tuple[str, ...]:
    """What the session touched, newest first."""
    return tuple((session or {}).get("item_ids") or ())


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
    base: Floats, rows: ItemRows, known: Known, now_ms: int, *, tastes: Tastes = RECKONED
) -> SignalMatrix:
    """All signals of a request.

    Args:
        base: `base_scores` of the candidates, in base order.
        rows: the candidates' features, gathered with `touched_items` of the session.
        known: profile rows.
        now_ms: the present (epoch ms).
        tastes: what rows say of attribute values, reckoned or remembered.

    Raises:
        ValueError: not one base score for each candidate, or not one time for each item touched.
    """
    attributes, names = rows.attributes, rows.numeric_names
    if len(base) != len(rows.rows):  # nothing is checked in machine code
        msg = f"{len(base)} base scores for {len(rows.rows)} candidates; each needs its own"
        raise ValueError(msg)
    times_ms = _times(known.session, len(rows.touched))
    values = fill(
        Candidates(rows.rows, rows.places, rows.alone, rows.share, base, _positions(len(base))),
        attributes.occurrences,
        (
            tastes.of_profile(known.user, attributes, names),
            tastes.of_profile(known.segment, attributes, names),
        ),
        tastes.of_session(known.session, attributes, names),
        Trail(rows.touched, times_ms, rows.together, rows.sessions, float(now_ms)),
    )
    return SignalMatrix(signal_names(attributes.types, names), values)


@lru_cache(maxsize=256)
def _positions(n: int) -> Floats:
    falling: Floats = -np.log2(np.arange(n) + 2.0)
    return falling


def _times(session: Row | None, count: int) -> Floats:
    """When each item was touched; machine code reads as many as there are items, so there must be."""
    times = np.array((session or {}).get("item_times_ms") or (), np.float64)
    if len(times) != count:
        msg = f"a session has {len(times)} item_times_ms for {count} item_ids; each needs its own"
        raise ValueError(msg)
    return times
