"""The users of one hash range: collects what sessions contribute, joins it at each tick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from feature_repo.groups.user_recent import WINDOW
from feature_repo.online.row_encoder import RowEncoder
from streaming.sessions.expiry import Sweep
from streaming.sessions.session_fold import FoldRules
from streaming.sessions.state_files import StateFolder
from streaming.sessions.user_fold import Contribution, UserChanges, apply, rows_of

TICKS_PER_JOIN = 5
"""Ticks for which contributions wait, so that a busy user costs one row; shards take turns."""
SPREAD_TICKS, LATEST_TICKS = 20, 40
"""Ticks over which rows are spread, so that the fold of sessions does not wait for them, and after which a
row is written whatever it costs: with the default of a second each, within the group's minute."""
ROWS_PER_TICK = 100
"""Rows that are not worth spreading."""
_UNWRITTEN, _SHRUNK = "unwritten", "shrunk"
_WINDOW_US = int(WINDOW.total_seconds() * 1e6)


@dataclass(frozen=True, slots=True)
class UserNews:
    """Contributions to users of one shard.

    Attributes:
        tick: time goes on.
        last: the flow ends: write all that waits.
        horizon_us: sessions without an event since are let go; users after their own window.
        rewrite: the online store was emptied.
    """

    shard: int
    contributions: list[Contribution] = field(default_factory=list)
    tick: bool = False
    horizon_us: int = 0
    rewrite: bool = False
    last: bool = False


class UserShard:
    """The users of one hash range.

    Args:
        groups: encoders of the groups that are kept of users.
    """

    def __init__(
        self, number: int, rules: FoldRules, state: StateFolder, groups: Sequence[RowEncoder]
    ) -> None:
        self._groups = groups
        self.number = number
        self._rules = rules
        self._state = state
        self._held = state.load()
        self._dirty: set[str] = set()
        self._pending: dict[str, list[Contribution]] = {}
        facts = state.facts()
        self._unwritten = dict.fromkeys(_names(facts.get(_UNWRITTEN)), 0)  # with the tick since when
        self._shrunk = set(_names(facts.get(_SHRUNK)))  # rows that may go back in time: deleted first
        self._handed_on: list[dict[str, bool]] = [{}, {}]  # before the last snapshot, and since; if shrunk
        self._ticks = self._joined = 0
        self._horizon_us = -(2**62)
        self._sweep = Sweep(self._held)

    def process(self, news: UserNews) -> UserChanges:
        """Take contributions in; at a tick, say what there is to write."""
        for contribution in news.contributions:
            self._pending.setdefault(contribution.user_id, []).append(contribution)
        changes = UserChanges()
        if news.rewrite:
            self._due(self._held)
        if news.tick:
            self._ticks += 1
            self._horizon_us = max(self._horizon_us, news.horizon_us + self._rules.ttl_us - _WINDOW_US)
        if news.last or (news.tick and (self._ticks + self.number) % TICKS_PER_JOIN == 0):
            self._join()
            self._expire(self._horizon_us)
            self._joined = self._ticks
        if news.last:
            self._write(changes, list(self._unwritten))
        elif news.tick:
            self._write(changes, self._turn())
        return changes

    def _turn(self) -> list[str]:
        """Who is written at this tick: a share of those joined at the last turn, longest waiting first."""
        share = max(ROWS_PER_TICK, len(self._unwritten) // SPREAD_TICKS)
        latest = self._ticks - LATEST_TICKS
        found: list[str] = []
        for user_id, since in self._unwritten.items():
            if since > self._joined or (len(found) >= share and since > latest):
                break
            found.append(user_id)
        return found

    def _due(self, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            self._unwritten.setdefault(user_id, self._ticks)

    def _write(self, changes: UserChanges, user_ids: list[str]) -> None:
        for user_id in user_ids:
            raw = self._held.get(user_id)
            self._handed_on[1][user_id] = user_id in self._shrunk
            if raw is None or user_id in self._shrunk:
                changes.deleted.append(user_id)
            if raw is not None:
                changes.rows += rows_of(user_id, raw, self._rules.session, self._groups)
            del self._unwritten[user_id]
            self._shrunk.discard(user_id)

    def _join(self) -> None:
        for user_id, contributions in self._pending.items():
            raw = apply(self._held.get(user_id), contributions)
            if raw is None:
                self._held.pop(user_id, None)
            else:
                self._held[user_id] = raw
            self._dirty.add(user_id)
            if any(c.profile is None for c in contributions):
                self._shrunk.add(user_id)
        self._due(self._pending)
        self._pending.clear()

    def _expire(self, horizon_us: int) -> None:
        expired = self._sweep.expired(horizon_us)
        for user_id in expired:
            del self._held[user_id]
            self._dirty.add(user_id)
        self._due(expired)

    def save(self) -> None:
        """Write what changed since the last time, and who is still to be written to the online store.

        Rows handed on since the snapshot before count as still to be written: a crash may overtake them.

        Raises:
            StoreError: the state file cannot be written.
        """
        self._join()
        handed_on = {**self._handed_on[0], **self._handed_on[1]}
        shrunk = self._shrunk.union(user_id for user_id, was in handed_on.items() if was)
        facts = {
            _UNWRITTEN: msgspec.json.encode(list({**handed_on, **self._unwritten})),
            _SHRUNK: msgspec.json.encode(sorted(shrunk)),
        }
        self._state.save(self._held, self._dirty, facts)
        self._dirty.clear()
        self._handed_on = [self._handed_on[1], {}]


def _names(raw: bytes | None) -> list[str]:
    return [] if raw is None else msgspec.json.decode(raw, type=list[str])
