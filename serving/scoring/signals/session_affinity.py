"""The session's affinity to the attribute values of an item."""

from __future__ import annotations

import math

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.scoring.compiled import compiled
from serving.scoring.signal import Asked, Each, Family, Signal
from serving.scoring.signal_groups import SESSION


def fill(out: Floats, asked: Asked) -> None:
    """Sum log((weight + 1) / (total · share + 1)) · ramp over the values of each item, by attribute type."""
    if not asked.session.known:
        out[:] = np.nan
        return
    items, (_, values, weights) = asked.rows.attributes.occurrences, asked.session
    odds = np.full(len(items.type_of), np.nan)
    _fill(out, asked.rows.rows, *items[1:], values, weights, np.zeros(items.types), odds, asked.ramp)


@compiled
def _fill(
    out: Floats,
    rows: Ints,
    type_of: Ints,
    share: Floats,
    offsets: Ints,
    values: Ints,
    touched: Ints,
    weights: Floats,
    totals: Floats,
    odds: Floats,
    ramp: float,
) -> None:
    """Fill the sums.

    Args:
        touched, weights: attribute values of the session and their weights.
        totals: zeros; filled with the session's total weight by attribute type.
        odds: nan; filled with the odds of each value that a candidate has.
    """
    for k in range(len(touched)):
        totals[type_of[touched[k]]] += weights[k]
    for k in range(len(touched)):
        expected = totals[type_of[touched[k]]] * share[touched[k]]
        odds[touched[k]] = math.log((weights[k] + 1.0) / (expected + 1.0)) * ramp
    for i in range(len(rows)):
        for kind in range(len(out)):
            out[kind, i] = 0.0
        if rows[i] >= 0:
            for k in range(offsets[rows[i]], offsets[rows[i] + 1]):
                value = values[k]
                kind = type_of[value]
                if math.isnan(odds[value]):
                    odds[value] = -math.log(totals[kind] * share[value] + 1.0) * ramp
                out[kind, i] += odds[value]


FAMILY = Family(
    (
        Signal(
            "session_affinity",
            SESSION,
            "Σ log((weight + 1)/(total · share + 1)), share by chance; times n/(n + 1)",
            "the {} this session looks at",
            Each.TYPE,
        ),
    ),
    fill,
)
