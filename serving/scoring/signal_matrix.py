"""The matrix of signals, filled by compiled loops: arrays in, an array out, nothing decided here.

Formulas are those of docs/ranking.md; tests hold them to `tests/oracles/matrix_oracle.py`. Indices are not
checked in machine code: item numbers are -1 (unknown) or within the tables handed in, value numbers within
`Occurrences`. Whatever these functions call is in this file: machine code that is kept is compiled again only
when its own file changes. They take flat arrays and allocate none: a named tuple, and each array made inside,
costs more to compile than the loop it serves.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from feature_repo.arrays import Floats, Ints
from serving.items.item_attributes import Occurrences
from serving.scoring.compiled import compiled

TOUCH_HALF_LIFE_S = 600.0
COVISIT_HALF_LIFE_S = 7200.0
COVISIT_PRIOR = 3.0
RAMP = 1.0
"""Clicks of a session at which its affinities have half their weight."""
_FREE = -1


class Candidates(NamedTuple):
    """``n`` candidates in base order.

    Attributes:
        rows: item number of each; -1 where unknown.
        places: row of each in the two tables that follow.
        alone: signals of items alone, those of the ``m`` numeric attributes last ``(…, ALONE + m)``.
        share: share of all engagement ``(…,)``; above 0.
        base, positions: the first two signals ``(n,)``.
    """

    rows: Ints
    places: Ints
    alone: Floats
    share: Floats
    base: Floats
    positions: Floats


class Taste(NamedTuple):
    """What a user's or a segment's profile says of attribute values and numeric attributes.

    Attributes:
        known: whether it says anything of attribute values.
        values: numbers of the values it knows.
        odds: log((clicks + 1) / (expected · r + 1)) of each: clicked beyond what anyone would.
        medians: `items.signed_log` of the median of what was engaged with, nan where unknown ``(m,)``.
    """

    known: bool
    values: Ints
    odds: Floats
    medians: Floats


class Leaning(NamedTuple):
    """What a session says of attribute values: their numbers, and the weight of each."""

    known: bool
    values: Ints
    weights: Floats


class Trail(NamedTuple):
    """What a session touched, newest first; empty where there is none.

    Attributes:
        touched: item numbers, -1 for unknown ``(t,)``.
        times_ms: when, epoch ms ``(t,)``.
        together: sessions that touched both the candidate and each of the last items ``(n, s)``.
        sessions: sessions that touched each of those ``(s,)``.
    """

    touched: Ints
    times_ms: Floats
    together: Floats
    sessions: Floats
    now_ms: float


def fill(
    candidates: Candidates,
    items: Occurrences,
    tastes: tuple[Taste, Taste],
    leaning: Leaning,
    trail: Trail,
) -> Floats:
    """All signals of all candidates ``(n, k)``, in the columns of `signals.signal_names`; nan where unknown.

    Args:
        tastes: the user's and the segment's.
    """
    user, segment = tastes
    width = 2 + candidates.alone.shape[1] + 3 * items.types + len(user.medians) + 3
    out, totals = np.empty((len(candidates.rows), width)), np.zeros(items.types)
    odds = np.zeros((len(items.type_of), 3))
    if leaning.known:
        odds[:, 2] = np.nan
    start = np.array([0.0 if taste.known else np.nan for taste in (user, segment, leaning)])
    decay, slots = np.empty((2, len(trail.sessions))), free_slots(len(trail.touched))
    tables = odds, start, totals, decay, slots
    handed: tuple[Any, ...] = *candidates, *items, *user[1:], *segment[1:3], *leaning[1:], *trail, *tables
    _fill(out, *handed)
    return out


@compiled
def _fill(
    out: Floats,
    rows: Ints,
    places: Ints,
    alone: Floats,
    shares: Floats,
    base: Floats,
    positions: Floats,
    types: int,
    type_of: Ints,
    share: Floats,
    offsets: Ints,
    values: Ints,
    user_values: Ints,
    user_odds: Floats,
    medians: Floats,
    segment_values: Ints,
    segment_odds: Floats,
    session_values: Ints,
    weights: Floats,
    touched: Ints,
    times_ms: Floats,
    both: Floats,
    sessions: Floats,
    now_ms: float,
    odds: Floats,
    start: Floats,
    totals: Floats,
    decay: Floats,
    slots: Ints,
) -> None:
    """Fill the matrix: the fields of what `fill` is handed, then the tables that the loops below work in."""
    user = 2 + alone.shape[1]
    segment = user + types + len(medians)
    session = segment + types
    ramp = len(touched) / (len(touched) + RAMP)
    _alone(out, user + types, rows, places, alone, base, positions, medians)
    for k in range(len(user_values)):
        odds[user_values[k], 0] = user_odds[k]
    for k in range(len(segment_values)):
        odds[segment_values[k], 1] = segment_odds[k]
    _session_odds(odds, totals, type_of, share, session_values, weights, ramp)
    _by_type(
        out,
        user,
        segment,
        session,
        rows,
        types,
        type_of,
        share,
        offsets,
        values,
        odds,
        start,
        totals,
        ramp,
    )
    _covisits(out, session + types, rows, places, shares, times_ms, both, sessions, now_ms, decay, ramp)
    _touched(out, session + types + 1, rows, touched, times_ms, now_ms, slots)


@compiled
def read_ahead(
    rows: Ints, alone: Floats, share: Floats, type_of: Ints, values_share: Floats, offsets: Ints, values: Ints
) -> float:
    """Read what `fill` is going to read of each item, so that it is in the processor's caches by then.

    Args:
        type_of, values_share, offsets, values: of `Occurrences`.

    Returns:
        a number of no meaning, without which nothing would be read.
    """
    total = 0.0
    for i in range(len(rows)):
        if rows[i] >= 0:
            total += alone[rows[i], 0] + alone[rows[i], alone.shape[1] - 1] + share[rows[i]]
            for k in range(offsets[rows[i]], offsets[rows[i] + 1]):
                total += type_of[values[k]] + values_share[values[k]]
    return total


@compiled
def _alone(
    out: Floats,
    distances: int,
    rows: Ints,
    places: Ints,
    alone: Floats,
    base: Floats,
    positions: Floats,
    medians: Floats,
) -> None:
    """Base, position, what depends on the item alone, and |x − median| of each numeric attribute."""
    width, m = alone.shape[1], len(medians)
    for i in range(len(out)):
        out[i, 0], out[i, 1] = base[i], positions[i]
        for j in range(width):
            out[i, 2 + j] = alone[places[i], j] if rows[i] >= 0 else np.nan
        for j in range(m):
            out[i, distances + j] = abs(out[i, 2 + width - m + j] - medians[j])


@compiled
def _session_odds(
    odds: Floats, totals: Floats, type_of: Ints, share: Floats, values: Ints, weights: Floats, ramp: float
) -> None:
    """What a session says of the values it touched: log((weight + 1) / (total · share + 1)) · ramp.

    Args:
        totals: filled with the weight of the session on values of each type.
    """
    for k in range(len(values)):
        totals[type_of[values[k]]] += weights[k]
    for k in range(len(values)):
        expected = totals[type_of[values[k]]] * share[values[k]]
        odds[values[k], 2] = math.log((weights[k] + 1.0) / (expected + 1.0)) * ramp


@compiled
def _by_type(
    out: Floats,
    user: int,
    segment: int,
    session: int,
    rows: Ints,
    types: int,
    type_of: Ints,
    share: Floats,
    offsets: Ints,
    values: Ints,
    odds: Floats,
    start: Floats,
    totals: Floats,
    ramp: float,
) -> None:
    """Sums of the odds of each candidate's values, by attribute type.

    Args:
        user, segment, session: first column of each.
        odds: what the three make of each value ``(size, 3)``; nan: not computed yet, and done here.
        start: 0 for each of the three that is known, nan for one that is not.
        totals: weight of the session on values of each type, times `ramp` where it counts.
    """
    for i in range(len(rows)):
        for kind in range(types):
            out[i, user + kind] = start[0] if rows[i] >= 0 else np.nan
            out[i, segment + kind] = start[1] if rows[i] >= 0 else np.nan
            out[i, session + kind] = start[2] if rows[i] >= 0 else np.nan
        if rows[i] < 0:
            continue
        for k in range(offsets[rows[i]], offsets[rows[i] + 1]):
            value = values[k]
            kind = type_of[value]
            if math.isnan(odds[value, 2]):  # of the values a session did not touch, only those asked for
                odds[value, 2] = -math.log(totals[kind] * share[value] + 1.0) * ramp
            out[i, user + kind] += odds[value, 0]
            out[i, segment + kind] += odds[value, 1]
            out[i, session + kind] += odds[value, 2]


@compiled
def _covisits(
    out: Floats,
    column: int,
    rows: Ints,
    places: Ints,
    shares: Floats,
    times_ms: Floats,
    both: Floats,
    sessions: Floats,
    now_ms: float,
    scratch: Floats,
    ramp: float,
) -> None:
    """Mean of log((c + 3p) / ((n + 3) p)) over the last items, newest most, growing with the session.

    How much more often than its share `p` of all engagement the candidate goes with what was touched. Where
    none did (c = 0), which is nearly everywhere, `p` cancels and the logarithm is that of the last item.

    Args:
        both, sessions: `Trail.together` and `Trail.sessions`.
        scratch: room for two numbers of each of the last items ``(2, s)``.
    """
    count, total = len(sessions), 0.0
    for s in range(count):
        age_s = max((now_ms - times_ms[s]) / 1000.0, 0.0)
        scratch[0, s] = 0.5 ** (age_s / COVISIT_HALF_LIFE_S)
        scratch[1, s] = math.log(COVISIT_PRIOR / (sessions[s] + COVISIT_PRIOR))
        total += scratch[0, s]
    total = max(total, 1e-9)
    for i in range(len(out)):
        out[i, column] = np.nan
        if rows[i] < 0 or count == 0:
            continue
        share, lifts = shares[places[i]], 0.0
        for s in range(count):
            lift = scratch[1, s]
            if both[i, s] > 0.0:
                lift = (both[i, s] + COVISIT_PRIOR * share) / ((sessions[s] + COVISIT_PRIOR) * share)
                lift = math.log(lift)
            lifts += scratch[0, s] * lift
        out[i, column] = lifts / total * ramp


@compiled
def _touched(
    out: Floats, column: int, rows: Ints, touched: Ints, times_ms: Floats, now_ms: float, slots: Ints
) -> None:
    """Whether the session touched the candidate already, and how recently (1 now, halved every 10 min)."""
    _enter(slots, touched)
    for i in range(len(rows)):
        out[i, column] = out[i, column + 1] = 0.0 if rows[i] >= 0 else np.nan
        place = slots[_slot(slots, touched, rows[i])]
        if place != _FREE:
            age_s = max((now_ms - times_ms[place]) / 1000.0, 0.0)
            out[i, column] = 1.0
            out[i, column + 1] = 0.5 ** (age_s / TOUCH_HALF_LIFE_S)


def together(rows: Ints, last: Ints, offsets: Ints, neighbours: Ints, counts: Floats) -> Floats:
    """Sessions that touched both each candidate and each of the last items ``(n, s)``.

    Args:
        rows: item numbers of the candidates; -1 for unknown.
        last: item numbers of the last items; -1 for unknown.
        offsets, neighbours, counts: neighbours of item after item, in compressed rows.
    """
    out = np.zeros((len(rows), len(last)))
    if len(last):
        _together(out, rows, last, offsets, neighbours, counts, free_slots(len(rows)))
    return out


@compiled
def _together(
    out: Floats, rows: Ints, last: Ints, offsets: Ints, neighbours: Ints, counts: Floats, slots: Ints
) -> None:
    _enter(slots, rows)
    for s in range(len(last)):
        if last[s] >= 0:
            for k in range(offsets[last[s]], offsets[last[s] + 1]):
                place = slots[_slot(slots, rows, neighbours[k])]
                if place != _FREE:
                    out[place, s] = counts[k]


def free_slots(count: int) -> Ints:
    """An empty hash table for so many items: a power of two of slots, at most half of them taken."""
    return np.full(max(8, 1 << (2 * count - 1).bit_length()), _FREE)


@compiled
def _enter(slots: Ints, items: Ints) -> None:
    """Enter the places of known items into a hash table; of an item met twice, the first."""
    for place in range(len(items)):
        if items[place] >= 0:
            at = _slot(slots, items, items[place])
            if slots[at] == _FREE:
                slots[at] = place


@compiled
def _slot(slots: Ints, items: Ints, item: int) -> int:
    """The slot that holds the place of an item, else the free one where the search for it ends."""
    at = (item * 0x9E3779B1 >> 15) & (len(slots) - 1)
    while slots[at] != _FREE and items[slots[at]] != item:
        at = (at + 1) & (len(slots) - 1)
    return at
