"""What a shard reads: records of the log become touches by session, and knowledge of items and users."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from feature_repo.consent import permitted
from feature_repo.contract import Item, User
from feature_repo.errors import ContractError
from feature_repo.groups.session_profile import Touch, touch_of
from streaming.chunk import Changes, Chunk, Tally
from streaming.enrich import LogEvent, decode_record
from streaming.fold_tools import ShardTools
from streaming.fold_user import Contribution
from streaming.log import Damage

_WATERMARK, _HEARD, _LEAVING = "watermark_us", "heard/", "leaving"
POSITION = "position"
"""Fact of a shard's file: up to where in the log its state has come."""


Entry = tuple[int, Touch, bytes]
"""An event to fold: the expiry horizon (µs) that held when it came, what it says, and its bytes."""


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
        self._leaving: set[str] = set(msgspec.json.decode(facts.get(_LEAVING, b"[]"), type=list[str]))
        self.newest_us: int | None = None
        self.horizon_us = -(2**62)
        for name, raw in facts.items():
            if name == _WATERMARK:
                self.newest_us = int(raw)
                self.horizon_us = self.newest_us - tools.rules.ttl_us
            elif name.startswith(_HEARD):
                record = decode_record(raw)
                assert isinstance(record, Item | User)
                tools.knowledge.hear(record)

    def read(self, chunk: Chunk, now_us: int, changes: Changes) -> dict[str, list[Entry]]:
        """Touches by session, in log order; what cannot be decoded goes to the quarantine."""
        for damage in chunk.damaged:
            self.put_aside(damage.raw, ContractError("damaged_log", "", damage.reason), damage)
        for raw in chunk.heard:
            self._overhear(raw)
        if chunk.position:
            self._facts[POSITION] = chunk.position.encode()
        return self._sort(chunk.records, now_us, changes)

    def advance(self, time_us: int) -> None:
        """Move the expiry horizon; never back, whatever clocks say."""
        self.horizon_us = max(self.horizon_us, time_us - self._tools.rules.ttl_us)

    def leaving(self) -> set[str]:
        """Users who withdrew consent since this was last asked, and have not given it again."""
        leaving, self._leaving = self._leaving, set()
        return {user_id for user_id in leaving if self._tools.knowledge.denies(user_id)}

    def put_aside(self, raw: bytes, error: ContractError, damage: Damage | None = None) -> None:
        """Keep what cannot be read or folded, with the reason."""
        self._tally.quarantined += 1
        source = damage.source if damage else f"event log, partition {self._partition}"
        self._tools.quarantine.put(raw, source, damage.offset if damage else None, error)

    def facts(self) -> dict[str, bytes]:
        """What is new since `saved`, for the shard's file."""
        if self.newest_us is not None:
            watermark = min(self.newest_us, self.horizon_us + self._tools.rules.ttl_us)
            self._facts[_WATERMARK] = b"%d" % watermark
        return {**self._facts, _LEAVING: msgspec.json.encode(sorted(self._leaving))}

    def saved(self) -> None:
        """The facts are in the file."""
        self._facts = {}

    def _sort(self, records: list[bytes], now_us: int, changes: Changes) -> dict[str, list[Entry]]:
        sorted_: dict[str, list[Entry]] = {}
        tools, tally = self._tools, self._tally
        stated = tools.knowledge.consents.get
        tally.read += len(records)
        for raw in records:
            try:
                record = decode_record(raw)
            except msgspec.MsgspecError as error:
                self.put_aside(raw, ContractError("not_a_record", "", f"log record: {error}"))
                continue
            if not isinstance(record, LogEvent):
                self._hear(record, raw, changes)
                continue
            of_user = None if record.user_id is None else stated(record.user_id)
            touch = touch_of(record, tools.weights, permitted(record.consent, of_user, None))
            if self.newest_us is None or touch.time_us > self.newest_us:
                self.newest_us = touch.time_us
                self.advance(min(touch.time_us, now_us))
            if touch.time_us < self.horizon_us:
                tally.late += 1
                continue
            sorted_.setdefault(record.session_id, []).append((self.horizon_us, touch, raw))
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
            record = decode_record(raw)
        except msgspec.MsgspecError:
            return  # that shard puts it aside
        if not isinstance(record, LogEvent):
            self._learn(record, raw)

    def _learn(self, record: Item | User, raw: bytes) -> None:
        self._tools.knowledge.hear(record)
        if isinstance(record, User):
            self._facts[f"{_HEARD}user/{record.user_id}"] = raw
            if record.consent is False:
                self._leaving.add(record.user_id)
