"""The candidates' features as arrays, from a snapshot when serving and from statistics in a replay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct

from feature_repo.arrays import Floats, Ints
from serving.items.item_attributes import Attributes

LAST_ITEMS = 5
"""Number of newest touched items whose neighbours are used."""

MIN_CTR = 1e-4
LOG_CTR, LOG_CLICKS, POPULARITY = 0, 1, slice(2, 5)
ALONE = 8
"""Number of fixed columns of `ItemRows.alone`; the numeric attributes follow."""


class ItemRows(Struct, frozen=True, eq=False):
    """``n`` candidates as arrays, in the requested order, and the items that the session touched.

    Attributes:
        rows: item number of each candidate; -1 if unknown.
        places: row of each candidate in `alone` and `share`; the last row, of nan, for an unknown item.
        attributes: attribute values of all items, by item number.
        alone: signals of the items alone (see `alone`) ``(…, ALONE + m)``; nan if unknown.
        share: share of all engagement (long half-life), smoothed by one unit per item ``(…,)``; above 0.
        numeric_names: the ``m`` numeric attributes.
        touched: item numbers of the touched items, newest first, -1 for unknown ``(t,)``.
        together: number of sessions that touched both the candidate and each of the last items ``(n, s)``.
        sessions: number of sessions that touched each of the last items ``(s,)``.
        steps: how often the candidate was touched next after each of the last items ``(n, s)``, and how often
            anything was ``(s,)``; called only if a signal needs them.
        last_numerics: numeric attributes of the item touched last, on the scale of `alone` ``(m,)``.
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
    steps: Callable[[], tuple[Floats, Floats]]
    last_numerics: Floats


def alone(
    ctr: Floats,
    clicks: Floats,
    popularity: Floats,
    debiased: Floats,
    age_days: Floats,
    purchases: Floats,
    numerics: Floats,
) -> Floats:
    """Compute the signals that depend only on the item. A snapshot holds them for all of its items.

    Unknown values are nan.

    Args:
        ctr: smoothed click-through rate ``(n,)``.
        clicks: number of engagements so far ``(n,)``.
        popularity: decayed engagement with short, mid and long half-life ``(n, 3)``.
        debiased: clicks divided by the clicks expected at the positions shown ``(n,)``.
        age_days: days since the item was created ``(n,)``.
        numerics: numeric attributes ``(n, m)``.

    Returns:
        The columns log(ctr), log(1 + clicks), log(1 + popularity), log(debiased), log(1 + age) and
        `signed_log` of the numeric attributes.
    """
    rate, clicked = np.log(np.maximum(ctr, MIN_CTR)), np.log1p(clicks)
    beyond, aged = np.log(np.maximum(debiased, MIN_CTR)), np.log1p(np.maximum(age_days, 0.0))
    columns = [
        rate[:, None],
        clicked[:, None],
        np.log1p(popularity),
        beyond[:, None],
        aged[:, None],
        np.log1p(purchases)[:, None],
        signed_log(numerics),
    ]
    return np.concatenate(columns, axis=1)


def signed_log(values: Floats) -> Floats:
    """Compute log(1 + |x|) with the sign of x, which puts prices, years and counts on similar scales."""
    return np.copysign(np.log1p(np.abs(values)), values)
