"""What signals need of the candidates, as arrays: served from a snapshot, replayed from statistics."""

from __future__ import annotations

from dataclasses import dataclass

from serving.attributes import Attributes, Floats, Ints

LAST_ITEMS = 5
"""Items of a session, newest first, whose neighbours count."""


@dataclass(frozen=True, slots=True)
class ItemRows:
    """``n`` candidates as arrays, in the order asked for.

    Attributes:
        rows: item number of each candidate; -1 where the item is unknown.
        attributes: the values of all items.
        cells, values: attribute occurrences of the candidates (`Attributes.gather`).
        ctr: smoothed click-through rate ``(n,)``; nan where unknown.
        clicks: engagements so far ``(n,)``; nan where unknown.
        popularity: decayed engagement, short, mid and long half-life ``(n, 3)``; nan where unknown.
        share: share of all engagement (long half-life), smoothed by one unit an item ``(n,)``; above 0.
        numeric_names: columns of `numerics`.
        numerics: numeric attributes ``(n, m)``; nan where absent.
        together: sessions that touched both the candidate and each of the last items ``(n, s)``.
        sessions: sessions that touched each of the last items ``(s,)``.
    """

    rows: Ints
    attributes: Attributes
    cells: Ints
    values: Ints
    ctr: Floats
    clicks: Floats
    popularity: Floats
    share: Floats
    numeric_names: tuple[str, ...]
    numerics: Floats
    together: Floats
    sessions: Floats
