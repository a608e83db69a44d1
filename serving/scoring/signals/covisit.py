"""Co-visits: how often sessions that touched this session's last items also touched the candidate."""

from __future__ import annotations

import math

import numpy as np

from feature_repo.arrays import Floats
from serving.scoring.compiled import compiled
from serving.scoring.signal import Asked, Family, Signal
from serving.scoring.signal_groups import SESSION

HALF_LIFE_S = 7200.0
PRIOR = 3.0
RECENT = 3
"""Number of touched items that `covisit_recent` uses."""


def fill(out: Floats, asked: Asked) -> None:
    """Write the mean lift over the last items, and the odds after the last one and the last three."""
    rows = asked.rows
    if not len(rows.sessions):
        out[:] = np.nan
        return
    scratch = np.empty((2, len(rows.sessions)))
    share = rows.share[rows.places]
    _fill(out, share, asked.times_ms, rows.together, rows.sessions, asked.now_ms, scratch, asked.ramp)


@compiled
def _fill(
    out: Floats,
    shares: Floats,
    times_ms: Floats,
    both: Floats,
    sessions: Floats,
    now_ms: float,
    scratch: Floats,
    ramp: float,
) -> None:
    """Compute the mean lift log((c + 3p) / ((n + 3) p)) over the last items, weighted by recency.

    The lift compares how often the candidate occurs with a touched item to its share `p` of all engagement.
    For most candidates no session touched both (c = 0). Then `p` cancels, and the logarithm depends only on
    the touched item.

    Args:
        both, sessions: number of sessions that touched both, and that touched each of the last items.
        scratch: scratch space ``(2, s)``.
    """
    total = 0.0
    for s in range(len(sessions)):
        age_s = max((now_ms - times_ms[s]) / 1000.0, 0.0)
        scratch[0, s] = 0.5 ** (age_s / HALF_LIFE_S)
        scratch[1, s] = math.log(PRIOR / (sessions[s] + PRIOR))
        total += scratch[0, s]
    total = max(total, 1e-9)
    recent = min(len(sessions), RECENT)
    for i in range(len(shares)):
        lifts, odds, alone = 0.0, 0.0, math.log(shares[i])
        for s in range(len(sessions)):
            lift = scratch[1, s]
            if both[i, s] > 0.0:
                lift = (both[i, s] + PRIOR * shares[i]) / ((sessions[s] + PRIOR) * shares[i])
                lift = math.log(lift)
            lifts += scratch[0, s] * lift
            if s == 0:
                out[1, i] = lift + alone
            if s < recent:
                odds += lift + alone
        out[0, i] = lifts / total * ramp
        out[2, i] = odds / recent


FAMILY = Family(
    (
        Signal(
            "covisit",
            SESSION,
            "mean over the last 5 items (half-life 2 h) of log((c + 3p)/((n + 3) p)); times n/(n + 1)",
            "its co-visits with the items touched last, compared to chance",
        ),
        Signal(
            "covisit_last",
            SESSION,
            "log((c + 3p)/(n + 3)): how likely a session with the last touched item touches this one",
            "its co-visits with the item touched last",
        ),
        Signal(
            "covisit_recent",
            SESSION,
            "mean of `covisit_last` over the last 3 touched items",
            "its co-visits with the items touched last",
        ),
    ),
    fill,
)
