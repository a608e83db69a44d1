"""All sessions of one log partition: fold, expire, and say what changed. No framework, no threads.

A partition of the log has one owner, and so has every session in it: keys of the log are session ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import TypeAlias

import msgspec

from feature_repo.clock import micros_of, time_of
from feature_repo.errors import ContractError
from feature_repo.groups.session_profile import Profile
from feature_repo.online import EncodedRow
from streaming.sessions.expiry import Sweep
from streaming.sessions.heartbeat import Counts, Heartbeat
from streaming.sessions.intake import Entry, Intake
from streaming.sessions.messages import Changes, Chunk, Tally
from streaming.sessions.outbox import OUTBOX, SAVES, Outbox
from streaming.sessions.session_fold import Outcome, Session, profile_of
from streaming.sessions.shard_context import ShardTools
from streaming.sessions.state_files import StateFolder
from streaming.sessions.user_fold import Contribution
from streaming.sessions.withdrawal import sessions_of

_log = logging.getLogger(__name__)
_MICROSECOND = timedelta(microseconds=1)
REWRITTEN_PER_TICK = 5_000

Rows: TypeAlias = list[EncodedRow]
Said: TypeAlias = tuple[list[Contribution], list[Contribution], bool]
"""Contributions that reading the log again would not bring back, those that it would, whether it expired."""


class SessionShard:
    """Sessions of one partition.

    Args:
        partition: of the event log.
        state: where the sessions outlive the process; loaded here.
    """

    def __init__(self, partition: int, tools: ShardTools, state: StateFolder) -> None:
        self.partition = partition
        self.tally = Tally()
        self._tools = tools
        self._state = state
        self._held = state.load()
        self._restored = bool(self._held)
        self._bytes = sum(map(len, self._held.values()))
        self._dirty: set[str] = set()
        self._sweep = Sweep(self._held)
        self._rewrite: Iterator[str] = iter(())
        self._restating: Iterator[tuple[str, bool]] | None = None
        facts = state.facts()
        self._outbox = Outbox(facts.get(OUTBOX))
        self._intake = Intake(partition, tools, self.tally, facts)

    def process(self, chunk: Chunk) -> Changes:
        """Fold a chunk; what cannot be decoded or folded goes to the quarantine."""
        changes = self._outbox.again(self._held)
        now_us = micros_of(self._tools.clock())
        for session_id, entries in self._intake.read(chunk, now_us, changes).items():
            self._fold(session_id, entries, changes)
        if chunk.tick:
            self._tick(chunk, now_us, changes)
        return changes

    def _fold(self, session_id: str, entries: list[Entry], changes: Changes) -> None:
        """Fold events of a session together; where that fails, one by one, to put aside the one to blame.

        Nothing is changed before all has succeeded.
        """
        held, tools = self._held.get(session_id), self._tools
        outcomes: list[Outcome] = []
        rows: list[Rows | None] = []
        said: list[Said] = []
        try:
            session = Session(held, tools.rules, tools.knowledge.facts)
            for horizon_us, touch, _, _ in entries:
                last_us = session.last_us
                if last_us is not None and last_us < horizon_us:
                    said.append(self._said(session_id, session, over=True))
                    session = Session(None, tools.rules, tools.knowledge.facts)
                outcomes.append(session.fold(touch))
                if tools.every_event and outcomes[-1] == "folded":
                    rows.append(self._rows(session_id, session.profile))
            now, profile = session.encode(), session.profile
            if not tools.every_event:
                rows.append(self._rows(session_id, profile))
            if (profile is not None and profile.user_id is not None) or session.erased or session.finished:
                said.append(self._said(session_id, session))
        except Exception as error:
            self._fold_singly(session_id, entries, changes, error)
            return
        self._bytes += len(now) - (len(held) if held is not None else 0)
        self._held[session_id] = now
        self._dirty.add(session_id)
        self.tally.count(outcomes)
        for row in rows:
            _put(session_id, row, changes)
        for lasting, live, expired in said:
            self.tally.expired += expired
            self._outbox.contributions += lasting
            changes.contributions += lasting
            changes.contributions += live

    def _fold_singly(self, session_id: str, entries: list[Entry], changes: Changes, error: Exception) -> None:
        if len(entries) == 1:
            self._put_aside(entries[0], error)
            return
        rows, deleted = len(changes.rows), len(changes.deleted)
        for entry in entries:
            self._fold(session_id, [entry], changes)
        if not self._tools.every_event and (raw := self._held.get(session_id)) is not None:
            del changes.rows[rows:], changes.deleted[deleted:]  # the last of them says all
            self._emit(session_id, profile_of(raw), changes)

    def _put_aside(self, entry: Entry, error: Exception) -> None:
        _, touch, raw, place = entry
        _log.warning("partition %d: an event cannot be folded", self.partition, exc_info=error)
        reason = f"event {touch.event_id!r} cannot be folded: {type(error).__name__}: {error}"
        self._intake.put_aside(raw, place, ContractError("poison", "", reason))

    def _emit(self, session_id: str, profile: Profile, changes: Changes) -> None:
        _put(session_id, self._rows(session_id, profile), changes)

    def _rows(self, session_id: str, profile: Profile | None) -> Rows | None:
        """The session's row in each of its groups; `None` to delete them where consent is denied.

        A refusal in a session is a row without features: serving must tell it from a session never seen.
        Repeats are written on purpose: after a crash the state may be ahead of the online store, and the
        events read again then bring it level.
        """
        if profile is None or self._tools.knowledge.denies(profile.user_id):
            return None
        if profile.refused:
            return [group.without_features(session_id, profile.last_us) for group in self._tools.sessions]
        if profile.denied:
            return None
        rules = self._tools.rules.session
        return [group.encode(session_id, profile.last_us, profile, rules) for group in self._tools.sessions]

    def _said(self, session_id: str, session: Session, *, over: bool = False) -> Said:
        """What a session says of its users. Events read again repeat only what the live profile says."""
        denies = self._tools.knowledge.denies
        said = [Contribution(user_id, session_id, started_us) for user_id, started_us in session.erased]
        for run in session.finished:
            if run.user_id is not None and not denies(run.user_id):
                raw = msgspec.msgpack.encode(run)
                said.append(Contribution(run.user_id, session_id, run.started_us, run.last_us, raw))
        profile = session.profile
        if profile is None or profile.user_id is None or profile.denied:
            return said, [], over
        if denies(profile.user_id):
            live = Contribution(profile.user_id)
        else:
            raw = msgspec.msgpack.encode(profile) if over else session.live
            live = Contribution(profile.user_id, session_id, profile.started_us, profile.last_us, raw)
        return ([*said, live], [], over) if over else (said, [live], over)

    def _tick(self, chunk: Chunk, now_us: int, changes: Changes) -> None:
        if (newest_us := self._intake.newest_us) is not None:
            self._intake.advance(min(now_us, newest_us + chunk.idle_us))
        self._expire(changes)
        self._withdraw(changes)
        self._tools.knowledge.refresh_sometimes()
        lost = self._tools.store_lost(f"sessions/{self.partition}", self._restored)
        if lost or self._outbox.interrupted:
            _log.warning("partition %d: the online store was emptied, writing it again", self.partition)
            self._rewrite = iter(list(self._held))
            self._outbox.interrupted = False
            self._outbox.rewriting = SAVES
            changes.rewrite = True
        portion = list(islice(self._rewrite, REWRITTEN_PER_TICK))
        if portion:
            self._outbox.rewriting = SAVES
        for session_id in portion:
            if (raw := self._held.get(session_id)) is not None:
                self._emit(session_id, profile_of(raw), changes)
        self._restate(chunk, changes)
        changes.horizon_us = self._intake.horizon_us
        changes.heartbeat = self._heartbeat(chunk)

    def _restate(self, chunk: Chunk, changes: Changes) -> None:
        """Say again what users stated of consent to a store that was emptied or is new; one shard for all."""
        tools = self._tools
        if self.partition != 0 or chunk.behind_s > 0:
            return
        if self._restating is None:
            if not tools.consent_lost():
                return
            self._restating = iter(list(tools.knowledge.consents.items()))
        portion = list(islice(self._restating, REWRITTEN_PER_TICK))
        # What was stated meanwhile was written when it came.
        now = tools.knowledge.consents
        changes.restated = {user_id: said for user_id, said in portion if now.get(user_id) is said}
        if len(portion) < REWRITTEN_PER_TICK:
            self._restating = None
            changes.complete = tools.knowledge.whole

    def _expire(self, changes: Changes) -> None:
        expired = self._sweep.expired(self._intake.horizon_us)
        self.tally.expired += len(expired)
        self._let_go(expired, changes)

    def _withdraw(self, changes: Changes) -> None:
        """End the sessions of users who withdrew consent, idle ones too: row and state go."""
        if users := self._intake.leaving():
            self._let_go(sessions_of(self._held, users), changes)

    def finish(self) -> Changes:
        """What waits for a tick, at the end of the log or of the flow."""
        changes = Changes()
        self._withdraw(changes)
        return changes

    def _let_go(self, sessions: list[str], changes: Changes) -> None:
        for session_id in sessions:
            self._bytes -= len(self._held.pop(session_id))
            self._dirty.add(session_id)
        changes.deleted += sessions
        self._outbox.deleted += sessions
        if sessions and changes.rows and not self._tools.every_event:
            # Deletions are done first: a row of this very chunk would stay. History keeps what was.
            gone = set(sessions)
            changes.rows = [row for row in changes.rows if row.key not in gone]

    def _heartbeat(self, chunk: Chunk) -> Heartbeat:
        tally, newest_us = self.tally, self._intake.newest_us
        return Heartbeat(
            partition=self.partition,
            last_event_time=None if newest_us is None else time_of(newest_us),
            wall_time=self._tools.clock(),
            behind_s=chunk.behind_s,
            counts=Counts(
                tally.read,
                tally.folded,
                tally.duplicate,
                tally.late,
                tally.quarantined,
                replayed=tally.replayed,
            ),
            sessions=len(self._held),
            state_bytes=self._bytes,
        )

    @property
    def sessions(self) -> Mapping[str, bytes]:
        """Held sessions by id."""
        return self._held

    def save(self) -> None:
        """Write what changed since the last time.

        Raises:
            StoreError: the state file cannot be written.
        """
        facts = {**self._intake.facts(), OUTBOX: self._outbox.save()}
        self._state.save(self._held, self._dirty, facts)
        self._dirty.clear()
        self._intake.saved()


def _put(session_id: str, rows: Rows | None, changes: Changes) -> None:
    if rows is None:
        changes.deleted.append(session_id)
    else:
        changes.rows += rows
