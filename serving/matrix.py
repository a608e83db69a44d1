"""The matrix of signals, filled by compiled loops: arrays in, an array out, nothing decided here.

Formulas are those of docs/ranking.md; tests hold them to `tests/matrix_oracle.py`. Indices are not checked
in machine code: item numbers are -1 (unknown) or within the tables handed in, value numbers within
`Occurrences`. Whatever these functions call stands in this file: machine code that is kept is made anew only
when its own file changes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from serving.attributes import Floats, Ints, Occurrences
from serving.compiled import Plain, compiled

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
    return _fill(tuple(candidates), tuple(items), (tuple(user), tuple(segment)), tuple(leaning), tuple(trail))


@compiled
def _fill(
    of_candidates: Plain, of_items: Plain, of_tastes: tuple[Plain, Plain], of_leaning: Plain, of_trail: Plain
) -> Floats:
    candidates, items, trail = Candidates(*of_candidates), Occurrences(*of_items), Trail(*of_trail)
    tastes, leaning = (Taste(*of_tastes[0]), Taste(*of_tastes[1])), Leaning(*of_leaning)
    rows, types, medians = candidates.rows, items.types, tastes[0].medians
    of_user = 2 + candidates.alone.shape[1]
    of_segment = of_user + types + len(medians)
    of_session = of_segment + types
    out = np.empty((len(rows), of_session + types + 3))
    _alone(out, of_user + types, candidates, medians)
    ramp = len(trail.touched) / (len(trail.touched) + RAMP)
    columns = (of_user, of_segment, of_session)
    _by_type(out, columns, rows, items, _odds(items, tastes, leaning, ramp))
    _covisits(out, of_session + types, candidates, trail, ramp)
    _touched(out, of_session + types + 1, rows, trail)
    for i in range(len(rows)):
        if rows[i] < 0:
            for j in range(2, out.shape[1]):
                out[i, j] = np.nan
    return out


@compiled
def read_ahead(rows: Ints, alone: Floats, share: Floats, of_items: Plain) -> float:
    """Read what `fill` is going to read of each item, so that it stands in the processor's caches by then.

    Returns:
        a number of no meaning, without which nothing would be read.
    """
    items, total = Occurrences(*of_items), 0.0
    for i in range(len(rows)):
        if rows[i] >= 0:
            total += alone[rows[i], 0] + alone[rows[i], alone.shape[1] - 1] + share[rows[i]]
            for k in range(items.offsets[rows[i]], items.offsets[rows[i] + 1]):
                total += items.type_of[items.values[k]] + items.share[items.values[k]]
    return total


@compiled
def _alone(out: Floats, distances: int, candidates: Candidates, medians: Floats) -> None:
    """Base, position, what depends on the item alone, and |x − median| of each numeric attribute."""
    width, m = candidates.alone.shape[1], len(medians)
    for i in range(len(out)):
        out[i, 0], out[i, 1] = candidates.base[i], candidates.positions[i]
        place = candidates.places[i]
        for j in range(width):
            out[i, 2 + j] = candidates.alone[place, j]
        for j in range(m):
            out[i, distances + j] = abs(candidates.alone[place, width - m + j] - medians[j])


class _Odds(NamedTuple):
    """Per attribute value what user, segment and session make of it ``(size, 3)``; nan: not reckoned yet.

    Attributes:
        start: 0 for each of the three that is known, nan for one that is not.
        totals: weight of the session on values of each type, times `ramp` where it counts.
    """

    of: Floats
    start: Floats
    totals: Floats
    ramp: float


@compiled
def _odds(items: Occurrences, tastes: tuple[Taste, Taste], leaning: Leaning, ramp: float) -> _Odds:
    """What each row says of attribute values; a session log((weight + 1) / (total · share + 1)) · ramp."""
    of = np.zeros((len(items.type_of), 3))
    start = np.zeros(3)
    for j, taste in enumerate(tastes):
        for k in range(len(taste.values)):
            of[taste.values[k], j] = taste.odds[k]
        if not taste.known:
            start[j] = np.nan
    totals = np.zeros(items.types)
    if not leaning.known:
        start[2] = np.nan
        return _Odds(of, start, totals, ramp)
    for value in range(len(of)):
        of[value, 2] = np.nan
    for k in range(len(leaning.values)):
        totals[items.type_of[leaning.values[k]]] += leaning.weights[k]
    for k in range(len(leaning.values)):
        value = leaning.values[k]
        expected = totals[items.type_of[value]] * items.share[value]
        of[value, 2] = math.log((leaning.weights[k] + 1.0) / (expected + 1.0)) * ramp
    return _Odds(of, start, totals, ramp)


@compiled
def _by_type(out: Floats, columns: tuple[int, int, int], rows: Ints, items: Occurrences, odds: _Odds) -> None:
    """Sums of the odds of each candidate's values, by attribute type."""
    user, segment, session = columns
    for i in range(len(rows)):
        for kind in range(items.types):
            out[i, user + kind] = odds.start[0]
            out[i, segment + kind] = odds.start[1]
            out[i, session + kind] = odds.start[2]
        if rows[i] < 0:
            continue
        for k in range(items.offsets[rows[i]], items.offsets[rows[i] + 1]):
            value = items.values[k]
            kind = items.type_of[value]
            if math.isnan(odds.of[value, 2]):  # of the values a session did not touch, only those asked for
                odds.of[value, 2] = -math.log(odds.totals[kind] * items.share[value] + 1.0) * odds.ramp
            out[i, user + kind] += odds.of[value, 0]
            out[i, segment + kind] += odds.of[value, 1]
            out[i, session + kind] += odds.of[value, 2]


@compiled
def _covisits(out: Floats, column: int, candidates: Candidates, trail: Trail, ramp: float) -> None:
    """Mean of log((c + 3p) / ((n + 3) p)) over the last items, newest most, growing with the session.

    How much more often than its share `p` of all engagement the candidate goes with what was touched. Where
    none did (c = 0), which is nearly everywhere, `p` cancels and the logarithm is that of the last item.
    """
    count = len(trail.sessions)
    decay, never, total = np.empty(count), np.empty(count), 0.0
    for s in range(count):
        age_s = max((trail.now_ms - trail.times_ms[s]) / 1000.0, 0.0)
        decay[s] = 0.5 ** (age_s / COVISIT_HALF_LIFE_S)
        total += decay[s]
        never[s] = math.log(COVISIT_PRIOR / (trail.sessions[s] + COVISIT_PRIOR))
    total = max(total, 1e-9)
    for i in range(len(out)):
        if candidates.rows[i] < 0:
            continue
        share, lifts = candidates.share[candidates.places[i]], 0.0
        for s in range(count):
            both, lift = trail.together[i, s], never[s]
            if both > 0.0:
                lift = (both + COVISIT_PRIOR * share) / ((trail.sessions[s] + COVISIT_PRIOR) * share)
                lift = math.log(lift)
            lifts += decay[s] * lift
        out[i, column] = lifts / total * ramp if count else np.nan


@compiled
def _touched(out: Floats, column: int, rows: Ints, trail: Trail) -> None:
    """Whether the session touched the candidate already, and how recently (1 now, halved every 10 min)."""
    slots = _slots(trail.touched)
    for i in range(len(rows)):
        place = slots[_slot(slots, trail.touched, rows[i])]
        out[i, column] = out[i, column + 1] = 0.0
        if place != _FREE:
            age_s = max((trail.now_ms - trail.times_ms[place]) / 1000.0, 0.0)
            out[i, column] = 1.0
            out[i, column + 1] = 0.5 ** (age_s / TOUCH_HALF_LIFE_S)


@compiled
def together(rows: Ints, last: Ints, offsets: Ints, neighbours: Ints, counts: Floats) -> Floats:
    """Sessions that touched both each candidate and each of the last items ``(n, s)``.

    Args:
        rows: item numbers of the candidates; -1 for unknown.
        last: item numbers of the last items; -1 for unknown.
        offsets, neighbours, counts: neighbours of item after item, in compressed rows.
    """
    out = np.zeros((len(rows), len(last)))
    slots = _slots(rows)
    for s in range(len(last)):
        if last[s] >= 0:
            for k in range(offsets[last[s]], offsets[last[s] + 1]):
                place = slots[_slot(slots, rows, neighbours[k])]
                if place != _FREE:
                    out[place, s] = counts[k]
    return out


@compiled
def _slots(items: Ints) -> Ints:
    """A hash table of the places of known items, by open addressing; of an item met twice, the first."""
    size = 8
    while size < 2 * len(items):
        size *= 2
    slots = np.full(size, _FREE)
    for place in range(len(items)):
        if items[place] >= 0:
            at = _slot(slots, items, items[place])
            if slots[at] == _FREE:
                slots[at] = place
    return slots


@compiled
def _slot(slots: Ints, items: Ints, item: int) -> int:
    """The slot that holds the place of an item, else the free one where the search for it ends."""
    at = (item * 0x9E3779B1 >> 15) & (len(slots) - 1)
    while slots[at] != _FREE and items[slots[at]] != item:
        at = (at + 1) & (len(slots) - 1)
    return at
