"""The long-term taste of the user and of the user's segment."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.items.item_rows import ALONE
from serving.scoring.compiled import compiled
from serving.scoring.signal import Asked, Each, Family, Signal, Taste
from serving.scoring.signal_groups import LONG_TERM, SEGMENT


def fill(out: Floats, asked: Asked) -> None:
    """Write the user's odds and distances, and the segment's odds."""
    types, numerics = asked.rows.attributes.occurrences.types, len(asked.user.medians)
    _odds(out[:types], asked, asked.user)
    np.abs(asked.alone[ALONE:] - asked.user.medians[:, None], out=out[types : types + numerics])
    _odds(out[types + numerics :], asked, asked.segment)


def _odds(out: Floats, asked: Asked, taste: Taste) -> None:
    if not taste.known:
        out[:] = np.nan
        return
    items = asked.rows.attributes.occurrences
    odds = np.zeros(len(items.type_of))
    odds[taste.values] = taste.odds
    _sum(out, asked.rows.rows, items.type_of, items.offsets, items.values, odds)


@compiled
def _sum(out: Floats, rows: Ints, type_of: Ints, offsets: Ints, values: Ints, odds: Floats) -> None:
    """Sum the odds of the values of each item, by attribute type."""
    for i in range(len(rows)):
        for kind in range(len(out)):
            out[kind, i] = 0.0
        if rows[i] >= 0:
            for k in range(offsets[rows[i]], offsets[rows[i] + 1]):
                out[type_of[values[k]], i] += odds[values[k]]


FAMILY = Family(
    (
        Signal(
            "log_odds",
            LONG_TERM,
            "Σ log((clicks + 1)/(expected · r + 1)) over the values of the item, by attribute type",
            "the user's taste in {}",
            Each.TYPE,
        ),
        Signal(
            "distance",
            LONG_TERM,
            "distance to the median of what the user engaged with, on the log scale",
            "how near its {} is to what the user likes",
            Each.NUMERIC,
        ),
        Signal(
            "segment_log_odds",
            SEGMENT,
            "the same log-odds for the segment of the user",
            "the segment's taste in {}",
            Each.TYPE,
        ),
    ),
    fill,
)
