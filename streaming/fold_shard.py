"""All sessions of one log partition: decode, fold, expire, and say what changed. No framework, no threads.

A partition of the log has one owner, and so has every session in it: keys of the log are session ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

import msgspec

from feature_repo.contract import Item, User
from feature_repo.errors import ContractError
from feature_repo.groups.session_profile import Profile, Touch, time_of, touch_of
from streaming.chunk import Changes, Chunk, Tally
from streaming.encode import encode_session
from streaming.enrich import Knowledge, LogEvent, decode_record
from streaming.fold import FoldRules, Session, profile_of
from streaming.fold_consent import sessions_of
from streaming.fold_outbox import OUTBOX, SAVES, Outbox
from streaming.fold_state import StateFolder
from streaming.fold_sweep import Sweep
from streaming.fold_user import Contribution
from streaming.heartbeat import Counts, Heartbeat
from streaming.log import Damage

_log = logging.getLogger(__name__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
REWRITTEN_PER_TICK = 5_000
_WATERMARK, _HEARD, _LEAVING = "watermark_us", "heard/", "leaving"
POSITION = "position"
"""Fact of a shard's file: up to where in the log its state has come."""


class PutsAside(Protocol):
    """What a shard needs of the quarantine."""

    def put(self, raw: bytes, source: str, line: int | None, error: ContractError) -> object:
        """Keep rejected bytes with the reason."""
        ...


@dataclass(frozen=True)
class ShardTools:
    """What every shard of a process shares.

    Attributes:
        store_lost: asked at each tick with the shard's name: whether the online store lost what was written.
        every_event: a row for each event instead of one for each session of a chunk: history, not the newest.
    """

    rules: FoldRules
    weights: Mapping[str, float]
    consent_default: bool
    knowledge: Knowledge
    quarantine: PutsAside
    clock: Callable[[], datetime]
    store_lost: Callable[[str, bool], bool] = lambda name, known: False
    every_event: bool = False


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
        self._facts: dict[str, bytes] = {}
        self._newest_us: int | None = None
        self._horizon_us = -(2**62)
        self._sweep = Sweep(self._held)
        self._rewrite: Iterator[str] = iter(())
        self._outbox = Outbox()
        self._leaving: set[str] = set()  # users who withdrew consent; their sessions end at the next tick
        self._remember(state.facts())

    def _remember(self, facts: Mapping[str, bytes]) -> None:
        self._outbox = Outbox(facts.get(OUTBOX))
        self._leaving.update(msgspec.json.decode(facts.get(_LEAVING, b"[]"), type=list[str]))
        for name, raw in facts.items():
            if name == _WATERMARK:
                self._newest_us = int(raw)
                self._horizon_us = self._newest_us - self._tools.rules.ttl_us
            elif name.startswith(_HEARD):
                record = decode_record(raw)
                assert isinstance(record, Item | User)
                self._tools.knowledge.hear(record)

    def process(self, chunk: Chunk) -> Changes:
        """Fold a chunk; what cannot be decoded or folded goes to the quarantine."""
        changes = self._outbox.again(self._held)
        for damage in chunk.damaged:
            self._put_aside(damage.raw, ContractError("damaged_log", "", damage.reason), damage)
        now_us = (self._tools.clock() - _EPOCH) // _MICROSECOND
        for raw in chunk.heard:
            self._overhear(raw)
        if chunk.position:
            self._facts[POSITION] = chunk.position.encode()
        for session_id, entries in self._sort(chunk.records, now_us, changes).items():
            self._fold(session_id, entries, changes)
        if chunk.tick:
            self._tick(chunk, now_us, changes)
        return changes

    def _sort(
        self, records: list[bytes], now_us: int, changes: Changes
    ) -> dict[str, list[tuple[int, Touch, bytes]]]:
        """Touches by session, in log order, each with the expiry horizon that held when it came."""
        sorted_: dict[str, list[tuple[int, Touch, bytes]]] = {}
        tools, tally = self._tools, self.tally
        stated, default = tools.knowledge.consents.get, None if tools.consent_default else False
        tally.read += len(records)
        for raw in records:
            try:
                record = decode_record(raw)
            except msgspec.MsgspecError as error:
                self._put_aside(raw, ContractError("not_a_record", "", f"log record: {error}"))
                continue
            if not isinstance(record, LogEvent):
                self._hear(record, raw, changes)
                continue
            of_user = None if record.user_id is None else stated(record.user_id)
            consent = (
                record.consent if record.consent is not None else of_user if of_user is not None else default
            )
            touch = touch_of(record, tools.weights, False if of_user is False else consent)
            if self._newest_us is None or touch.time_us > self._newest_us:
                self._newest_us = touch.time_us
                self._advance(min(touch.time_us, now_us))
            if touch.time_us < self._horizon_us:
                tally.late += 1
                continue
            sorted_.setdefault(record.session_id, []).append((self._horizon_us, touch, raw))
        return sorted_

    def _advance(self, time_us: int) -> None:
        """Move the expiry horizon; never back, whatever clocks say."""
        self._horizon_us = max(self._horizon_us, time_us - self._tools.rules.ttl_us)

    def _hear(self, record: Item | User, raw: bytes, changes: Changes) -> None:
        self._tools.knowledge.hear(record)
        if isinstance(record, Item):
            self._facts[f"{_HEARD}item/{record.item_id}"] = raw
            return
        self._facts[f"{_HEARD}user/{record.user_id}"] = raw
        changes.consents[record.user_id] = record.consent
        if record.consent is False:
            self._leaving.add(record.user_id)
            changes.contributions.append(Contribution(record.user_id))

    def _overhear(self, raw: bytes) -> None:
        """Learn of an item, or what a user stated; its own shard, perhaps in another process, counts it."""
        try:
            record = decode_record(raw)
        except msgspec.MsgspecError:
            return  # that shard puts it aside
        if isinstance(record, LogEvent):
            return
        self._tools.knowledge.hear(record)
        if isinstance(record, User):
            self._facts[f"{_HEARD}user/{record.user_id}"] = raw
            if record.consent is False:
                self._leaving.add(record.user_id)

    def _fold(self, session_id: str, entries: list[tuple[int, Touch, bytes]], changes: Changes) -> None:
        tally = self.tally
        held = self._held.get(session_id)
        session = self._open(held)
        for horizon_us, touch, raw in entries:
            last_us = session.last_us
            if last_us is not None and last_us < horizon_us:
                self._contribute(session_id, session, changes, over=True)
                session = self._open(None)
                tally.expired += 1
            try:
                outcome = session.fold(touch)
            except Exception as error:
                _log.warning("partition %d: an event cannot be folded", self.partition, exc_info=True)
                reason = f"event {touch.event_id!r} cannot be folded: {type(error).__name__}: {error}"
                self._put_aside(raw, ContractError("poison", "", reason))
                continue
            if outcome == "folded":
                tally.folded += 1
                if self._tools.every_event and session.profile is not None:
                    self._emit(session_id, session.profile, changes)
            elif outcome == "duplicate":
                tally.duplicate += 1
            else:
                tally.late += 1
        profile = session.profile
        if profile is None:
            return
        now = session.encode()
        self._bytes += len(now) - (len(held) if held is not None else 0)
        self._held[session_id] = now
        self._dirty.add(session_id)
        if not self._tools.every_event:
            self._emit(session_id, profile, changes)
        if profile.user_id is not None or session.erased or session.finished:
            self._contribute(session_id, session, changes)

    def _open(self, raw: bytes | None) -> Session:
        return Session(raw, self._tools.rules, self._tools.knowledge.facts)

    def _emit(self, session_id: str, profile: Profile, changes: Changes) -> None:
        """The session's row, or its deletion where consent is denied. Repeats are written again on purpose.

        After a crash the state may be ahead of the online store; the events read again then bring it level.
        """
        if profile.denied or self._tools.knowledge.denies(profile.user_id):
            changes.deleted.append(session_id)
            return
        changes.rows.append(encode_session(session_id, profile, self._tools.rules.session))

    def _contribute(self, session_id: str, session: Session, changes: Changes, *, over: bool = False) -> None:
        """What a session says of its users. Events read again repeat only what the live profile says."""
        denies = self._tools.knowledge.denies
        said = [Contribution(user_id, session_id, started_us) for user_id, started_us in session.erased]
        for run in session.finished:
            if run.user_id is not None and not denies(run.user_id):
                raw = msgspec.msgpack.encode(run)
                said.append(Contribution(run.user_id, session_id, run.started_us, run.last_us, raw))
        self._outbox.contributions += said
        changes.contributions += said
        profile = session.profile
        if profile is None or profile.user_id is None or profile.denied:
            return
        if denies(profile.user_id):
            live = Contribution(profile.user_id)
        else:
            raw = msgspec.msgpack.encode(profile) if over else session.live
            live = Contribution(profile.user_id, session_id, profile.started_us, profile.last_us, raw)
        changes.contributions.append(live)
        if over:
            self._outbox.contributions.append(live)

    def _put_aside(self, raw: bytes, error: ContractError, damage: Damage | None = None) -> None:
        self.tally.quarantined += 1
        source = damage.source if damage else f"event log, partition {self.partition}"
        self._tools.quarantine.put(raw, source, damage.offset if damage else None, error)

    def _tick(self, chunk: Chunk, now_us: int, changes: Changes) -> None:
        if self._newest_us is not None:
            self._advance(min(now_us, self._newest_us + chunk.idle_us))
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
        changes.horizon_us = self._horizon_us
        changes.heartbeat = self._heartbeat(chunk)

    def _expire(self, changes: Changes) -> None:
        expired = self._sweep.expired(self._horizon_us)
        self.tally.expired += len(expired)
        self._let_go(expired, changes)

    def _withdraw(self, changes: Changes) -> None:
        """End the sessions of users who withdrew consent, idle ones too: row and state go."""
        if users := {user_id for user_id in self._leaving if self._tools.knowledge.denies(user_id)}:
            self._let_go(sessions_of(self._held, users), changes)
        self._leaving.clear()

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
        tally = self.tally
        return Heartbeat(
            partition=self.partition,
            last_event_time=None if self._newest_us is None else time_of(self._newest_us),
            wall_time=self._tools.clock(),
            behind_s=chunk.behind_s,
            counts=Counts(tally.read, tally.folded, tally.duplicate, tally.late, tally.quarantined),
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
        if self._newest_us is not None:
            self._facts[_WATERMARK] = b"%d" % min(
                self._newest_us, self._horizon_us + self._tools.rules.ttl_us
            )
        self._facts[OUTBOX] = self._outbox.save()
        self._facts[_LEAVING] = msgspec.json.encode(sorted(self._leaving))
        self._state.save(self._held, self._dirty, self._facts)
        self._dirty.clear()
        self._facts = {}
