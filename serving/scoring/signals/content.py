"""Similarity of an item to the items touched last, by attribute values and by numeric attributes."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.items.item_rows import ALONE
from serving.scoring.compiled import compiled
from serving.scoring.signal import Asked, Each, Family, Signal
from serving.scoring.signal_groups import SESSION

LAST = 3
"""Number of touched items that `content_recent` uses."""


def fill(out: Floats, asked: Asked) -> None:
    """Write the cosines, and the distances of the numeric attributes."""
    rows = asked.rows
    if not len(rows.touched):
        out[:] = np.nan
        return
    items, (squared, lengths) = rows.attributes, rows.attributes.rarity
    weights = np.zeros((len(squared), LAST))
    _fill(out, rows.rows, rows.touched[:LAST], squared, lengths, items.offsets, items.values, weights)
    np.abs(asked.alone[ALONE:] - rows.last_numerics[:, None], out=out[2:])


@compiled
def _fill(
    out: Floats,
    rows: Ints,
    touched: Ints,
    squared: Floats,
    lengths: Floats,
    offsets: Ints,
    values: Ints,
    weights: Floats,
) -> None:
    """Compute the cosine of the attribute values of two items, weighting each value by −log(its share).

    Args:
        squared, lengths: `Attributes.rarity`.
        weights: zeros ``(size, LAST)``; filled with the squared weight of each value of a touched item.
    """
    for s in range(len(touched)):
        if touched[s] >= 0:
            for k in range(offsets[touched[s]], offsets[touched[s] + 1]):
                weights[values[k], s] = squared[values[k]]
    for i in range(len(rows)):
        out[0, i] = out[1, i] = 0.0
        for s in range(len(touched)):
            if rows[i] < 0 or touched[s] < 0:
                continue
            both = 0.0
            for k in range(offsets[rows[i]], offsets[rows[i] + 1]):
                both += weights[values[k], s]
            alike = both / max(lengths[rows[i]] * lengths[touched[s]], 1e-9)
            out[1, i] += alike / len(touched)
            if s == 0:
                out[0, i] = alike


FAMILY = Family(
    (
        Signal(
            "content_last",
            SESSION,
            "cosine of its attribute values with those of the last touched item, weights −log(share)",
            "its similarity to the item touched last",
        ),
        Signal(
            "content_recent",
            SESSION,
            "mean of that cosine over the last 3 touched items",
            "its similarity to the items touched last",
        ),
        Signal(
            "distance_last",
            SESSION,
            "distance to the last touched item on the log scale",
            "how near its {} is to that of the item touched last",
            Each.NUMERIC,
        ),
    ),
    fill,
)
