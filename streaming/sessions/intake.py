"""What a shard reads: records of the log become touches by session, and knowledge of items and users."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping

import msgspec

from feature_repo.consent import permitted
from feature_repo.contract.validation import Event, Item, User
from feature_repo.errors import ContractError
from feature_repo.groups.session_profile import Touch, touch_of
from streaming.log import Damage, Place, where
from streaming.sessions.messages import Changes, Chunk, Tally
from streaming.sessions.shard_context import ShardTools
from streaming.sessions.user_fold import Contribution

_log = logging.getLogger(__name__)
_WATERMARK, _HEARD, _LEAVING = "watermark_us", "heard/", "leaving"
POSITION = "position"
"""Fact of a shard's file: up to where in the log its state has come."""
RESUME = "resume"
"""Fact of a shard's file: from where on the log has to be read again, should nothing else be known.

Where the state was at the snapshot before the last but one: what it handed on until then is in the store.
"""


Entry = tuple[int, Touch, bytes, Place | None]
"""An event to fold: the expiry horizon (µs) that held when it came, what it says, its bytes and its place."""


class Intake:
    """The door of one shard: decodes, learns, keeps the watermark, and sorts by session.

    Args:
        partition: of the event log.
        tally: counts what is read, late and put aside.
        facts: of the shard's file, as `facts` and `saved` left them.

    Attributes:
        newest_us: the newest event time met; `None` before the first event.
        horizon_us: sessions whose newest event lies before it have expired.
    """

    def __init__(self, partition: int, tools: ShardTools, tally: Tally, facts: Mapping[str, bytes]) -> None:
        self._partition = partition
        self._tools = tools
        self._tally = tally
        self._facts: dict[str, bytes] = {}
        self._reached = deque([facts.get(RESUME, b"")] * 2, maxlen=2)
        self._position = facts.get(POSITION, b"")
        self._leaving: set[str] = set(msgspec.json.decode(facts.get(_LEAVING, b"[]"), type=list[str]))
        self._present_us = -(2**62)  # never goes back, as the clock may: true events would look ahead of it
        self.newest_us: int | None = None
        self.horizon_us = -(2**62)
        if (watermark := facts.get(_WATERMARK)) is not None:
            self.newest_us = int(watermark)
            self.horizon_us = self.newest_us - tools.rules.ttl_us
        recall(facts, tools)

    def read(self, chunk: Chunk, now_us: int, changes: Changes) -> dict[str, list[Entry]]:
        """Touches by session, in log order; what cannot be decoded goes to the quarantine."""
        for damage in chunk.damaged:
            self._put_aside_damage(damage)
        for raw in chunk.heard:
            self._overhear(raw)
        if chunk.position:
            self._position = self._facts[POSITION] = chunk.position.encode()
        self._tally.replayed += chunk.replayed
        return self._sort(chunk, now_us, changes)

    def advance(self, time_us: int) -> None:
        """Move the expiry horizon; never back, whatever clocks say."""
        self.horizon_us = max(self.horizon_us, time_us - self._tools.rules.ttl_us)

    def leaving(self) -> set[str]:
        """Users who withdrew consent since this was last asked, and have not given it again."""
        leaving, self._leaving = self._leaving, set()
        return {user_id for user_id in leaving if self._tools.knowledge.denies(user_id)}

    def put_aside(self, raw: bytes, place: Place | None, error: ContractError) -> None:
        """Keep a record that cannot be read or folded, with its place in the log and the reason."""
        self._tally.quarantined += 1
        self._tools.quarantine.put(raw, *where(self._partition, place), error)

    def facts(self) -> dict[str, bytes]:
        """What is new since `saved`, for the shard's file."""
        if self.newest_us is not None:
            watermark = min(self.newest_us, self.horizon_us + self._tools.rules.ttl_us)
            self._facts[_WATERMARK] = b"%d" % watermark
        leaving = msgspec.json.encode(sorted(self._leaving))
        return {**self._facts, _LEAVING: leaving, RESUME: self._reached[0]}

    def saved(self) -> None:
        """The facts are in the file."""
        self._facts = {}
        self._reached.append(self._position)

    def _put_aside_damage(self, damage: Damage) -> None:
        self._tally.quarantined += 1
        error = ContractError("damaged_log", "", damage.reason)
        self._tools.quarantine.put(damage.raw, damage.source, damage.offset, error)

    def _sort(self, chunk: Chunk, now_us: int, changes: Changes) -> dict[str, list[Entry]]:
        sorted_: dict[str, list[Entry]] = {}
        tools, tally, read = self._tools, self._tally, self._tools.records.read
        records, places = chunk.records, chunk.places or (None,) * len(chunk.records)
        stated = tools.knowledge.consents.get
        self._present_us = present_us = max(self._present_us, now_us, self.newest_us or now_us)
        latest_us = present_us + tools.rules.skew_us
        tally.read += len(records)
        weights, ttl_us = tools.weights, tools.rules.ttl_us
        for raw, place in zip(records, places, strict=True):
            try:
                record = read(raw)
            except ContractError as error:
                self.put_aside(raw, place, error)
                continue
            if not isinstance(record, Event):
                self._hear(record, raw, changes)
                continue
            of_user = None if record.user_id is None else stated(record.user_id)
            touch = touch_of(record, weights, permitted(record.consent, of_user, None))
            time_us = touch.time_us
            if time_us > latest_us:
                time_us, touch = present_us, msgspec.structs.replace(touch, time_us=present_us)
            if self.newest_us is None or time_us > self.newest_us:
                self.newest_us = time_us
                horizon_us = (time_us if time_us < now_us else now_us) - ttl_us  # `advance`, in place
                self.horizon_us = max(self.horizon_us, horizon_us)
            if time_us < self.horizon_us:
                tally.late += 1
                continue
            entry = (self.horizon_us, touch, raw, place)
            if (entries := sorted_.get(record.session_id)) is None:
                sorted_[record.session_id] = [entry]
            else:
                entries.append(entry)
        return sorted_

    def _hear(self, record: Item | User, raw: bytes, changes: Changes) -> None:
        self._learn(record, raw)
        if isinstance(record, Item):
            self._facts[f"{_HEARD}item/{record.item_id}"] = raw
            return
        changes.consents[record.user_id] = record.consent
        if record.consent is False:
            changes.contributions.append(Contribution(record.user_id))

    def _overhear(self, raw: bytes) -> None:
        """Learn of an item, or what a user stated; its own shard, perhaps in another process, counts it."""
        try:
            record = self._tools.records.read(raw)
        except ContractError:
            return  # that shard puts it aside
        if not isinstance(record, Event):
            self._learn(record, raw)

    def _learn(self, record: Item | User, raw: bytes) -> None:
        self._tools.knowledge.hear(record)
        if isinstance(record, User):
            self._facts[f"{_HEARD}user/{record.user_id}"] = raw
            if record.consent is False:
                self._leaving.add(record.user_id)


def recall(facts: Mapping[str, bytes], tools: ShardTools) -> None:
    """Learn again what an earlier process heard of items and users; what no longer passes is left out."""
    for name, raw in facts.items():
        if not name.startswith(_HEARD):
            continue
        try:
            record = tools.records.read(raw)
        except ContractError as error:
            _log.warning("what was heard of %s is forgotten: %s", name.removeprefix(_HEARD), error)
            continue
        if not isinstance(record, Event):
            tools.knowledge.hear(record)
