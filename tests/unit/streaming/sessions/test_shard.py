"""A shard's life on clocks of the test's: expiry, clocks that jump, poison, heartbeats, the canary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feature_repo.catalogue import ItemFacts
from feature_repo.clock import micros_of
from feature_repo.contract.validation import Event, Item, User, encode
from feature_repo.errors import ContractError, StoreError
from feature_repo.groups import session_profile
from feature_repo.lake.lake import Lake
from feature_repo.online.row_encoder import RowEncoder
from feature_repo.settings import Settings
from streaming.dataflow.graph import spread
from streaming.dataflow.store_canary import StoreWatch
from streaming.log import Damage
from streaming.sessions.expiry import AT_LEAST, TICKS, Sweep
from streaming.sessions.item_catalogue import Knowledge
from streaming.sessions.messages import Chunk
from streaming.sessions.session_fold import FoldRules, profile_of
from streaming.sessions.session_shard import SessionShard
from streaming.sessions.shard_context import ShardTools
from streaming.sessions.state_files import StateFolder

pytestmark = pytest.mark.usefixtures("zone")

SESSIONS_ENCODED = (RowEncoder(session_profile.GROUP),)
T0 = datetime(2024, 6, 1, 12, tzinfo=UTC)
HOUR = 3_600_000_000


class Clock:
    """A wall clock that goes where it is put."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Aside:
    """A quarantine in memory."""

    def __init__(self) -> None:
        self.put_aside: list[tuple[bytes, str, int | None, str]] = []

    def put(self, raw: bytes, source: str, line: int | None, error: ContractError) -> None:
        self.put_aside.append((raw, source, line, error.code))


class Stage:
    """A shard with everything around it handed in."""

    def __init__(self, folder: Path, knowledge: Knowledge | None = None) -> None:
        self.clock = Clock(T0)
        self.aside = Aside()
        self.lost: list[tuple[str, bool]] = []
        self.path = folder / "s"
        settings = Settings(session_ttl_s=3600.0)
        self.tools = ShardTools(
            rules=FoldRules.of(settings),
            weights=settings.weights,
            knowledge=knowledge or Knowledge(Lake(folder / "lake")),
            quarantine=self.aside,
            sessions=SESSIONS_ENCODED,
            clock=self.clock,
        )
        self.shard = SessionShard(2, self.tools, StateFolder(self.path))

    def restart(self) -> None:
        self.shard = SessionShard(2, self.tools, StateFolder(self.path))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def event(number: int, at: datetime, session: str = "s", item: str = "i") -> bytes:
    return encode(
        Event(event_id=f"e{number}", event_type="click", event_time=at, session_id=session, item_id=item)
    )


def chunk(*records: bytes, tick: bool = True, **more: Any) -> Chunk:
    return Chunk(2, list(records), position=more.pop("position", "p"), tick=tick, **more)


def restating(stage: Stage, partition: int = 0, **more: Any) -> list[Any]:
    """What a shard says of consent at each of three ticks to a store that has no mark."""
    tools = replace(stage.tools, consent_lost=lambda: True)
    shard = SessionShard(partition, tools, StateFolder(stage.path.with_name(f"p{partition}")))
    found = [shard.process(Chunk(partition, [], position="p", tick=True, **more)) for _ in range(3)]
    return [(changes.restated, changes.complete) for changes in found]


def test_the_first_shard_states_consent_again_and_then_that_it_is_complete(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge = stage.tools.knowledge
    assert restating(stage)[0] == ({}, True)
    for user, said in (("no", False), ("yes", True), ("late", False), ("silent", None)):
        knowledge.hear(User(user_id=user, consent=said))
    monkeypatch.setattr("streaming.sessions.session_shard.REWRITTEN_PER_TICK", 2)
    assert restating(stage)[:2] == [({"no": False, "yes": True}, False), ({"late": False}, True)]
    assert restating(stage, partition=1) == [({}, False)] * 3, "one shard speaks for all"
    assert restating(stage, behind_s=1.0) == [({}, False)] * 3, "a denial may still be unread"
    knowledge.whole = False
    assert [complete for _, complete in restating(stage)] == [False] * 3, "a file of users is unreadable"


def test_expired_sessions_leave_memory_file_and_store(stage: Stage) -> None:
    stage.shard.process(chunk(event(1, T0, "old")))
    stage.shard.save()
    stage.clock.now = T0 + timedelta(hours=3)
    changes = stage.shard.process(chunk(event(2, T0 + timedelta(hours=2), "new")))
    assert changes.deleted == ["old"]
    assert set(stage.shard.sessions) == {"new"}
    stage.shard.save()
    stage.restart()
    assert set(stage.shard.sessions) == {"new"}
    assert stage.shard.tally.expired == 0


def test_time_goes_on_in_a_partition_without_events(stage: Stage) -> None:
    stage.shard.process(chunk(event(1, T0)))
    stage.clock.now = T0 + timedelta(hours=3)
    assert stage.shard.process(chunk(idle_us=HOUR // 2)).deleted == []
    assert stage.shard.process(chunk(idle_us=2 * HOUR)).deleted == ["s"]


def test_a_replay_of_old_events_does_not_expire_by_the_wall_clock(stage: Stage) -> None:
    stage.clock.now = T0 + timedelta(days=900)
    assert stage.shard.process(chunk(event(1, T0))).deleted == []


def test_an_event_from_the_future_expires_nobody(stage: Stage) -> None:
    stage.shard.process(chunk(event(1, T0)))
    changes = stage.shard.process(chunk(event(2, T0 + timedelta(hours=20), "liar")))
    assert changes.deleted == []
    assert {row.key for row in stage.shard.process(chunk(event(3, T0 + timedelta(seconds=5)))).rows} == {"s"}


def test_an_event_from_the_future_does_not_make_true_ones_late(stage: Stage) -> None:
    """Two hours ahead is accepted at the door; it counts as of when it came."""
    stage.shard.process(chunk(event(1, T0 + timedelta(hours=2), item="liar")))
    stage.clock.now = T0 + timedelta(seconds=3)
    changes = stage.shard.process(
        chunk(event(2, T0 + timedelta(seconds=1), item="b"), event(3, T0 + timedelta(seconds=2), item="c"))
    )
    profile = profile_of(stage.shard.sessions["s"])
    assert list(profile.items) == ["liar", "b", "c"]
    assert profile.last_us == micros_of(T0 + timedelta(seconds=2))
    assert (stage.shard.tally.folded, stage.shard.tally.late) == (3, 0)
    assert changes.heartbeat is not None
    assert changes.heartbeat.last_event_time == T0 + timedelta(seconds=2)


@pytest.mark.parametrize(("ahead", "counts"), [(5.0, 5.0), (5.001, 0.0)])
def test_a_clock_a_little_ahead_is_believed(stage: Stage, ahead: float, counts: float) -> None:
    stage.shard.process(chunk(event(1, T0 + timedelta(seconds=ahead))))
    assert profile_of(stage.shard.sessions["s"]).last_us == micros_of(T0 + timedelta(seconds=counts))


@pytest.mark.parametrize("jump", [timedelta(hours=-5), timedelta(days=-400)])
def test_a_clock_that_jumps_back_stops_nothing_and_revives_nobody(stage: Stage, jump: timedelta) -> None:
    stage.shard.process(chunk(event(1, T0, "old")))
    stage.clock.now = T0 + timedelta(hours=2)
    stage.shard.process(chunk(event(2, T0 + timedelta(hours=2), "new")))
    assert set(stage.shard.sessions) == {"new"}
    stage.clock.now += jump
    changes = stage.shard.process(
        chunk(event(3, T0 + timedelta(hours=2, seconds=1), "new"), event(4, T0, "old"))
    )
    assert {row.key for row in changes.rows} == {"new"}
    assert stage.shard.tally.late == 1
    assert changes.heartbeat is not None
    assert changes.heartbeat.wall_time == stage.clock.now


def test_the_watermark_survives_a_restart(stage: Stage) -> None:
    stage.clock.now = T0 + timedelta(hours=5)
    stage.shard.process(chunk(event(1, T0 + timedelta(hours=4), "new")))
    stage.shard.save()
    stage.restart()
    assert stage.shard.process(chunk(event(2, T0, "old"))).rows == []
    assert stage.shard.tally.late == 1


class _Poison(dict[str, ItemFacts]):
    def get(self, key: str, default: Any = None) -> Any:
        if key == "poison":
            message = "cannot be folded"
            raise ZeroDivisionError(message)
        return default


def test_a_poison_event_is_put_aside_and_the_flow_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    knowledge = Knowledge(Lake(tmp_path / "lake"))
    knowledge.facts = _Poison()
    stage = Stage(tmp_path, knowledge)
    poison = event(2, T0, item="poison")
    changes = stage.shard.process(chunk(event(1, T0), poison, event(3, T0 + timedelta(seconds=1))))
    assert stage.aside.put_aside == [(poison, "event log, partition 2", None, "poison")]
    assert [row.key for row in changes.rows] == ["s"]
    assert changes.heartbeat is not None
    assert (changes.heartbeat.counts.folded, changes.heartbeat.counts.quarantined) == (2, 1)
    assert "an event cannot be folded" in caplog.text


def test_damage_of_the_log_is_put_aside_with_its_place(stage: Stage) -> None:
    stage.shard.process(chunk(damaged=(Damage("p=0002/000.seg", 77, b"\xff", "checksum"),)))
    assert stage.aside.put_aside == [(b"\xff", "p=0002/000.seg", 77, "damaged_log")]


def test_the_heartbeat_tells_state_and_counts(stage: Stage) -> None:
    heartbeat = stage.shard.process(chunk(event(1, T0), event(1, T0), behind_s=1.5)).heartbeat
    assert heartbeat is not None
    assert (heartbeat.partition, heartbeat.sessions, heartbeat.behind_s) == (2, 1, 1.5)
    assert (heartbeat.counts.read, heartbeat.counts.duplicate) == (2, 1)
    assert heartbeat.state_bytes == sum(map(len, stage.shard.sessions.values()))
    assert heartbeat.event_lag_s() == 0.0
    assert heartbeat.lag_s(T0 + timedelta(seconds=30)) == 31.5
    assert stage.shard.process(chunk(tick=False)).heartbeat is None


def test_a_large_state_is_swept_a_share_at_a_time(stage: Stage) -> None:
    stage.shard.process(chunk(event(1, T0)))
    raw = stage.shard.sessions["s"]
    held = {f"s{n}": raw for n in range(AT_LEAST * TICKS * 2)}
    sweep = Sweep(held)
    first = sweep.expired(2**62)
    assert len(first) == len(held) // TICKS
    for _ in range(TICKS - 1):
        first += sweep.expired(2**62)
    assert sorted(first) == sorted(held)
    assert Sweep(held).expired(0) == []


class Marks:
    """Marks of an online store that can be emptied or gone."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.gone = False

    def read(self) -> Mapping[str, bytes]:
        if self.gone:
            message = "gone"
            raise StoreError(message)
        return self.held

    def write(self, marks: Mapping[str, bytes]) -> None:
        self.held |= marks


def test_the_canary_tells_an_emptied_store_from_a_new_one_and_an_absent_one() -> None:
    marks = Marks()
    watch = StoreWatch(marks.read, marks.write)
    assert not watch.lost("sessions/0", known=False)
    assert not watch.lost("sessions/0", known=False)
    marks.gone = True
    assert not watch.lost("sessions/0", known=False)
    marks.gone = False
    marks.held.clear()
    assert watch.lost("sessions/0", known=False)
    assert not watch.lost("sessions/0", known=False)


def test_restored_state_without_a_canary_means_the_store_was_emptied() -> None:
    marks = Marks()
    assert StoreWatch(marks.read, marks.write).lost("sessions/0", known=True)
    assert not StoreWatch(marks.read, marks.write).lost("sessions/0", known=True)


def test_a_session_folded_and_expired_by_one_chunk_leaves_no_row(stage: Stage) -> None:
    """The writer deletes first and writes then: the row would stay in the store for ever."""
    stage.clock.now = T0 + timedelta(hours=3)
    changes = stage.shard.process(chunk(event(1, T0, "old"), event(2, T0 + timedelta(hours=2), "new")))
    assert changes.deleted == ["old"]
    assert [row.key for row in changes.rows] == ["new"]


def test_what_a_user_stated_goes_to_every_shard_and_events_to_their_own() -> None:
    said, sold = encode(User(user_id="anna", consent=False)), encode(Item(item_id="i"))
    given = chunk(event(1, T0), said, sold, tick=True)
    found = dict(spread(given, 4))
    assert sorted(found) == ["0000", "0001", "0002", "0003"]
    assert found.pop("0002") is given
    assert {(c.heard, len(c.records), c.tick) for c in found.values()} == {((said, sold), 0, False)}
    assert {c.position for c in found.values()} == {""}
    assert spread(chunk(event(1, T0)), 4) == [("0002", chunk(event(1, T0)))]


def test_an_item_heard_of_in_another_partition_is_known_here_at_once(stage: Stage) -> None:
    """Its shard may be another process, and the lake is written later."""
    stage.shard.process(Chunk(2, [], heard=(encode(Item(item_id="i", price=7.0)), event(1, T0))))
    assert stage.tools.knowledge.facts["i"].price == 7.0
    assert stage.shard.tally.read == len(stage.shard.sessions) == 0


def of(user: str, session: str, number: int = 1) -> bytes:
    return encode(
        Event(
            event_id=f"{session}-{number}",
            event_type="click",
            event_time=T0,
            session_id=session,
            item_id="i",
            user_id=user,
        )
    )


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_denial_ends_the_idle_sessions_of_its_user_at_the_next_tick(stage: Stage, elsewhere: bool) -> None:
    said = encode(User(user_id="anna", consent=False))
    stage.shard.process(chunk(of("anna", "phone"), of("bert", "desk"), of("anna", "tablet"), event(1, T0)))
    stage.shard.process(Chunk(2, [], heard=(said,)) if elsewhere else chunk(said, tick=False))
    changes = stage.shard.process(chunk(of("bert", "desk", 2), tick=True))
    assert sorted(changes.deleted) == ["phone", "tablet"]
    assert [row.key for row in changes.rows] == ["desk"]
    assert sorted(stage.shard.sessions) == ["desk", "s"]
    assert changes.heartbeat is not None
    assert changes.heartbeat.state_bytes == sum(map(len, stage.shard.sessions.values()))
    assert stage.shard.process(chunk(tick=True)).deleted == []


def test_a_denial_that_a_crash_overtakes_is_carried_out_by_the_next_process(stage: Stage) -> None:
    said = encode(User(user_id="anna", consent=False))
    stage.shard.process(chunk(of("anna", "phone"), of("bert", "desk")))
    stage.shard.process(chunk(said, tick=False))
    stage.shard.save()  # before the tick
    stage.restart()
    assert stage.shard.process(chunk(tick=True)).deleted == ["phone"]
    stage.shard.save()  # before the store had it
    stage.restart()
    assert stage.shard.process(chunk(tick=False)).deleted == ["phone"]
    assert list(stage.shard.sessions) == ["desk"]


def test_a_denial_taken_back_before_the_tick_spares_the_sessions(stage: Stage) -> None:
    said = (encode(User(user_id="anna", consent=consent)) for consent in (False, True))
    assert stage.shard.process(chunk(of("anna", "phone"), *said)).deleted == []
    assert stage.shard.finish().deleted == []


def test_where_no_tick_comes_the_end_of_the_log_carries_a_denial_out(stage: Stage) -> None:
    stage.shard.process(chunk(of("anna", "phone"), tick=True))
    stage.shard.process(Chunk(2, [], heard=(encode(User(user_id="anna", consent=False)),)))
    assert stage.shard.finish().deleted == ["phone"]


def test_consent_withdrawn_in_another_partition_holds_here_and_after_a_restart(stage: Stage) -> None:
    said = encode(User(user_id="anna", consent=False))
    of_anna = encode(
        Event(event_id="e1", event_type="click", event_time=T0, session_id="s", item_id="i", user_id="anna")
    )
    stage.shard.process(Chunk(2, [], heard=(said, b'{"record":"user"')))
    assert stage.shard.tally.read == 0
    assert stage.aside.put_aside == []
    stage.shard.save()
    stage.tools = replace(stage.tools, knowledge=Knowledge(Lake(stage.path.parent / "lake")))
    stage.restart()
    changes = stage.shard.process(chunk(of_anna))
    assert (changes.rows, set(changes.deleted)) == ([], {"s"})
