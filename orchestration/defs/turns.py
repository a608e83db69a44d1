"""Turn-taking: which changed day the sensor requests a run for next.

Pure: maps the state of the lake's days, earlier requests and waiting runs to at most one run. A run reads
the lake when it starts, so a waiting run will see everything that arrives until then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

import msgspec
import xxhash

MOST_CHAINS = 7
"""Newest changed days that get the whole chain. A bulk load of months is left to a backfill."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The requests so far: the sensor's cursor.

    Attributes:
        days: each day's state when a run of it was last requested; the least recently requested day first.
        fit: when a fit of the blend was last requested (s since 1970).
    """

    days: dict[str, str] = msgspec.field(default_factory=dict)
    fit: float = 0.0

    @classmethod
    def read(cls, cursor: str | None) -> Asked:
        """Parse the cursor; an earlier version stored only the days."""
        if not cursor:
            return cls()
        try:
            return msgspec.json.decode(cursor, type=cls)
        except msgspec.ValidationError:
            return cls(msgspec.json.decode(cursor, type=dict[str, str]))

    def write(self) -> str:
        """Serialize the cursor."""
        return msgspec.json.encode(self).decode()

    def having(self, days: Mapping[date, str]) -> Asked:
        """Return the cursor after runs of these days in these states were requested."""
        texts = {day.isoformat(): state for day, state in days.items()}
        return Asked({**{d: s for d, s in self.days.items() if d not in texts}, **texts}, self.fit)


@dataclass(frozen=True)
class Turn:
    """The run to request.

    Attributes:
        kind: ``chain`` for one day; ``lake`` only records the events of a range of days.
        days: the one day, or the first and the last of the range.
        first: whether this is the first run requested for that day.
        key: equal for equal states of the run's inputs.
    """

    kind: Literal["chain", "lake"]
    days: tuple[date, ...]
    first: bool
    key: str


@dataclass(frozen=True)
class Changes:
    """Days of the lake that differ from the last request.

    Attributes:
        days: changed days that have a partition, ascending.
        before: changed days older than the first partition; they need a reload of the code location.
        state: of every day that has begun. The newest day's state follows all days, because the online rows
            are built from all of them. So a day is built once more when it is over and a newer day begins.
    """

    days: tuple[date, ...]
    before: tuple[date, ...]
    state: Mapping[date, str]


def changes_since(asked: Asked, state: Mapping[date, str], first: date, today: date) -> Changes:
    """Compare the state with the last requests. Days that have not begun wait."""
    begun = {day: state[day] for day in sorted(state) if day <= today}
    if begun:
        begun[max(begun)] = _digest(begun)
    changed = sorted(day for day, found in begun.items() if asked.days.get(day.isoformat()) != found)
    return Changes(
        days=tuple(day for day in changed if day >= first),
        before=tuple(day for day in changed if day < first),
        state=begun,
    )


def covered(asked: Asked, changes: Changes, waiting: Collection[date]) -> Asked:
    """Add the days that count as requested: those with a waiting run, and those without a partition.

    Days that the lake no longer holds are dropped.
    """
    held = {day: state for day, state in asked.days.items() if date.fromisoformat(day) in changes.state}
    without = {day.isoformat(): changes.state[day] for day in changes.before}
    seen = {day: changes.state[day] for day in sorted(waiting) if day in changes.state}
    return Asked({**without, **held, **without}, asked.fit).having(seen)


def next_turn(asked: Asked, changes: Changes) -> tuple[Turn, Asked] | None:
    """Return the next run and the updated cursor; `None` if nothing changed.

    The newest day gets every other turn, because its build is online; the other days follow by waiting time.
    Days beyond `MOST_CHAINS` are recorded together in one run.
    """
    if not changes.state:
        return None
    newest = max(changes.state)
    others = [day for day in changes.days if day != newest]
    chained, older = others[-(MOST_CHAINS - 1) :], others[: -(MOST_CHAINS - 1)]
    last = next(reversed(asked.days), None)
    if newest in changes.days and (not others or last != newest.isoformat()):
        return _chain(newest, asked, changes)
    if older:
        states = {day: changes.state[day] for day in older}
        turn = Turn("lake", (older[0], older[-1]), True, _digest(states))
        return turn, asked.having(states)
    if chained:
        order = {day: place for place, day in enumerate(asked.days)}
        day = min(chained, key=lambda d: (order.get(d.isoformat(), -1), -d.toordinal()))
        return _chain(day, asked, changes)
    return None


def _chain(day: date, asked: Asked, changes: Changes) -> tuple[Turn, Asked]:
    state = changes.state[day]
    return Turn("chain", (day,), day.isoformat() not in asked.days, state), asked.having({day: state})


def _digest(states: Mapping[date, str]) -> str:
    return xxhash.xxh3_64_hexdigest(repr(states).encode())
