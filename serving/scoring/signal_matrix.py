"""The signal matrix: one pure function of the known features, used by both serving and evaluation.

Unknown values are nan, which the blend treats as neutral. The layout is derived from
`serving.scoring.signals`; nothing here names a signal.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import numpy as np
from msgspec import Struct

from feature_repo.arrays import Floats, Ints
from serving.items.item_rows import ItemRows
from serving.scoring.profile_signals import Row, Tastes
from serving.scoring.signal import Asked, Family
from serving.scoring.signals import all_families

FRESH = Tastes()


class SignalMatrix(Struct, frozen=True, eq=False):
    """``values[i, j]`` is signal ``names[j]`` of candidate ``i``, or nan if unknown.

    The values of one signal are contiguous in memory.
    """

    names: tuple[str, ...]
    values: Floats


class Known(Struct, frozen=True, eq=False):
    """Feature rows of the user, the segment and the session; `None` if absent or withheld."""

    user: Row | None = None
    segment: Row | None = None
    session: Row | None = None


class Layout(Struct, frozen=True, eq=False):
    """Columns of a matrix.

    Attributes:
        names: names of all columns.
        blocks: each family with its first column and its end (exclusive).
        items: columns of signals that need the item's features.
    """

    names: tuple[str, ...]
    blocks: tuple[tuple[Family, int, int], ...]
    items: Ints


@lru_cache(maxsize=64)
def layout(
    types: tuple[str, ...], numeric_names: tuple[str, ...], wanted: frozenset[str] | None = None
) -> Layout:
    """Compute the layout for a catalogue.

    Args:
        wanted: names of signals; families without any of them are left out. `None` for all.
    """
    names: list[str] = []
    blocks: list[tuple[Family, int, int]] = []
    items: list[int] = []
    for family in all_families():
        if wanted is None or not wanted.isdisjoint(signal.name for signal in family.signals):
            start = len(names)
            names.extend(n for signal in family.signals for n in signal.names(types, numeric_names))
            blocks.append((family, start, len(names)))
            items.extend(range(start, len(names)) if family.of_items else ())
    return Layout(tuple(names), tuple(blocks), np.array(items, np.intp))


def signal_names(types: tuple[str, ...], numeric_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns that `signals` returns."""
    return layout(types, numeric_names).names


def touched_items(session: Row | None) -> tuple[str, ...]:
    """Return the items that the session touched, newest first."""
    return tuple((session or {}).get("item_ids") or ())


def signals(
    base: Floats,
    rows: ItemRows,
    known: Known,
    now_ms: int,
    *,
    tastes: Tastes = FRESH,
    wanted: frozenset[str] | None = None,
) -> SignalMatrix:
    """Compute the signals of a request.

    Args:
        base: `base_scores` of the candidates, in base order.
        rows: the candidates' features, gathered with `touched_items` of the session.
        known: rows of user, segment and session.
        now_ms: current time (epoch ms).
        tastes: computes tastes from rows, with or without a cache.
        wanted: names of the signals to compute; `None` for all.

    Raises:
        ValueError: the number of base scores or of touch times does not match.
    """
    attributes, names = rows.attributes, rows.numeric_names
    if len(base) != len(rows.rows):  # compiled code does not check bounds
        msg = f"{len(base)} base scores for {len(rows.rows)} candidates; each needs its own"
        raise ValueError(msg)
    asked = Asked(
        base,
        rows,
        tastes.of_profile(known.user, attributes, names),
        tastes.of_profile(known.segment, attributes, names),
        tastes.of_session(known.session, attributes, names),
        _times(known.session, len(rows.touched)),
        float(now_ms),
    )
    plan = layout(attributes.types, names, wanted)
    values = np.empty((len(plan.names), len(base)))
    for family, start, stop in plan.blocks:
        family.fill(values[start:stop], asked)
    unknown = rows.rows < 0
    if unknown.any():
        values[np.ix_(plan.items, unknown)] = np.nan
    return SignalMatrix(plan.names, values.T)


def _times(session: Row | None, count: int) -> Floats:
    """Return the time of each touch. Compiled code reads one per touched item, so the count must match."""
    times = np.array((session or {}).get("item_times_ms") or (), np.float64)
    if len(times) != count:
        msg = f"a session has {len(times)} item_times_ms for {count} item_ids; each needs its own"
        raise ValueError(msg)
    return times


def signals_of(names: Collection[str]) -> frozenset[str]:
    """Return the names of the signals that the columns belong to."""
    return frozenset(name.partition(":")[0] for name in names)
