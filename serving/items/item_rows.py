"""What signals need of the candidates, as arrays: served from a snapshot, replayed from statistics."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from feature_repo.arrays import Floats, Ints
from serving.items.item_attributes import Attributes

LAST_ITEMS = 5
"""Items of a session, newest first, whose neighbours count."""

MIN_CTR = 1e-4
LOG_CTR, LOG_CLICKS, POPULARITY = 0, 1, slice(2, 5)
ALONE = 7
"""Columns of `ItemRows.alone`: these, then the numeric attributes."""


class ItemRows(Struct, frozen=True, eq=False):
    """``n`` candidates as arrays, in the order asked for, beside what the session touched.

    Attributes:
        rows: item number of each candidate; -1 where the item is unknown.
        places: row of each in `alone` and `share`; the last one, of nan, for an unknown item.
        attributes: the values of all items, by item number.
        alone: signals of items alone (`alone`) ``(…, ALONE + m)``; nan where unknown.
        share: shares of all engagement (long half-life), smoothed by one unit an item ``(…,)``; above 0.
        numeric_names: the ``m`` numeric attributes.
        touched: item numbers of what the session touched, newest first, -1 for unknown ``(t,)``.
        together: sessions that touched both the candidate and each of the last items ``(n, s)``.
        sessions: sessions that touched each of the last items ``(s,)``.
        last_numerics: numeric attributes of the last touched item, on the scale of `alone` ``(m,)``.
    """

    rows: Ints
    places: Ints
    attributes: Attributes
    alone: Floats
    share: Floats
    numeric_names: tuple[str, ...]
    touched: Ints
    together: Floats
    sessions: Floats
    last_numerics: Floats


def alone(
    ctr: Floats, clicks: Floats, popularity: Floats, debiased: Floats, age_days: Floats, numerics: Floats
) -> Floats:
    """The signals that depend on the item alone; a snapshot has them ready for all of its items.

    Args:
        ctr: smoothed click-through rate ``(n,)``; nan where unknown, here and below.
        clicks: engagements so far ``(n,)``.
        popularity: decayed engagement, short, mid and long half-life ``(n, 3)``.
        debiased: clicks over those expected at the positions shown ``(n,)``.
        age_days: since the item was created ``(n,)``.
        numerics: numeric attributes ``(n, m)``.

    Returns:
        log click-through rate, log(1 + x) of clicks and popularities, log of the debiased rate, log(1 + age),
        `signed_log` of numerics.
    """
    rate, clicked = np.log(np.maximum(ctr, MIN_CTR)), np.log1p(clicks)
    beyond, aged = np.log(np.maximum(debiased, MIN_CTR)), np.log1p(np.maximum(age_days, 0.0))
    columns = [
        rate[:, None],
        clicked[:, None],
        np.log1p(popularity),
        beyond[:, None],
        aged[:, None],
        signed_log(numerics),
    ]
    return np.concatenate(columns, axis=1)


def signed_log(values: Floats) -> Floats:
    """log(1 + |x|) with the sign of x: prices, years and counts on one footing."""
    return np.copysign(np.log1p(np.abs(values)), values)
