"""Crashes between a shard's save, the store's write and Bytewax's commit: what re-reading leaves out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feature_repo.contract.validation import Event, Record, User, encode
from feature_repo.errors import ContractError
from feature_repo.groups import session_profile
from feature_repo.groups.session_profile import Profile
from feature_repo.lake.lake import Lake
from feature_repo.online.row_encoder import RowEncoder
from feature_repo.settings import Settings
from streaming.sessions import session_shard as fold_shard
from streaming.sessions.item_catalogue import Knowledge
from streaming.sessions.messages import Changes, Chunk
from streaming.sessions.outbox import SAVES
from streaming.sessions.session_fold import FoldRules
from streaming.sessions.session_shard import SessionShard
from streaming.sessions.shard_context import ShardTools
from streaming.sessions.state_files import StateFolder
from streaming.sessions.user_fold import Contribution, apply

SESSIONS_ENCODED = (RowEncoder(session_profile.GROUP),)
T0 = datetime(2024, 6, 1, 12, tzinfo=UTC)
ANNA = {"user_id": "anna"}


class NoQuarantine:
    """Nothing is put aside here."""

    def put(self, raw: bytes, source: str, line: int | None, error: ContractError) -> None:
        raise AssertionError(str(error))


class Desk:
    """A shard that can crash at will, and the users its contributions come to."""

    def __init__(self, folder: Path) -> None:
        self.lost = False
        self.folder = folder
        self.users: dict[str, bytes] = {}
        self.shard = self._open()

    def _open(self) -> SessionShard:
        settings = Settings(session_ttl_s=7200.0)
        tools = ShardTools(
            FoldRules.of(settings),
            settings.weights,
            knowledge=Knowledge(Lake(self.folder / "lake")),
            quarantine=NoQuarantine(),
            sessions=SESSIONS_ENCODED,
            clock=lambda: T0 + timedelta(days=1),
            store_lost=lambda name, known: self.lost,
        )
        return SessionShard(0, tools, StateFolder(self.folder / "s"))

    def crash(self) -> None:
        self.shard = self._open()

    def read(self, *records: Record, tick: bool = False) -> Changes:
        changes = self.shard.process(Chunk(0, [encode(r) for r in records], "p", tick=tick))
        self.lost = False
        return changes

    def join(self, changes: Changes) -> None:
        """What the user shard makes of contributions."""
        for said in changes.contributions:
            raw = apply(self.users.pop(said.user_id, None), [said])
            if raw is not None:
                self.users[said.user_id] = raw


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def event(number: int, at_s: float, session: str = "s", **more: Any) -> Event:
    at = T0 + timedelta(seconds=at_s)
    return Event(
        event_id=f"e{number}", event_type="click", event_time=at, session_id=session, item_id="i", **more
    )


def starts(contributions: list[Contribution]) -> list[tuple[str, bool]]:
    return [(c.user_id, c.profile is not None) for c in contributions]


def test_deletions_the_store_did_not_get_are_done_again(desk: Desk) -> None:
    desk.read(event(1, 0, "old"))
    desk.shard.save()
    assert desk.read(event(2, 10_000, "new"), tick=True).deleted == ["old"]
    desk.shard.save()
    desk.crash()
    assert desk.read(event(2, 10_000, "new")).deleted == ["old"]
    assert desk.read().deleted == []


def test_what_was_said_again_survives_another_crash(desk: Desk) -> None:
    desk.read(event(1, 0, "old"))
    desk.read(event(2, 10_000, "new"), tick=True)
    desk.shard.save()
    for _ in range(3):
        desk.crash()
        desk.shard.save()
        desk.crash()
        assert desk.read().deleted == ["old"]
        desk.shard.save()


def test_deletions_are_forgotten_once_committed(desk: Desk) -> None:
    desk.read(event(1, 0, "old"))
    desk.read(event(2, 10_000, "new"), tick=True)
    for _ in range(SAVES + 1):
        desk.shard.save()
    desk.crash()
    assert desk.read().deleted == []


def test_a_session_begun_again_is_not_deleted_after_a_crash(desk: Desk) -> None:
    desk.read(event(1, 0, "old"))
    assert desk.read(event(2, 10_000, "new"), tick=True).deleted == ["old"]
    again = event(3, 10_001, "old")
    desk.read(again)
    desk.shard.save()
    desk.crash()
    changes = desk.read(again)
    assert changes.deleted == []
    assert [row.key for row in changes.rows] == ["old"]


def test_withdrawn_consent_reaches_the_user_across_a_crash(desk: Desk) -> None:
    desk.join(desk.read(event(1, 0, **ANNA)))
    desk.shard.save()
    assert list(desk.users) == ["anna"]
    denial = event(2, 5, consent=False)
    desk.read(denial)  # the user shard never got it
    desk.shard.save()
    desk.crash()
    desk.join(desk.read(denial))
    assert desk.shard.tally.duplicate == 1
    assert desk.users == {}


def test_a_run_that_ended_reaches_its_user_across_a_crash(desk: Desk) -> None:
    """Two runs within one epoch; read again, only the second is the live one."""
    events = [event(1, 0, **ANNA), event(2, 3600, **ANNA)]
    desk.read(*events)
    desk.shard.save()
    desk.crash()
    changes = desk.read(*events)
    assert starts(changes.contributions) == [("anna", True), ("anna", True)]
    assert {c.started_us for c in changes.contributions} == {
        int(e.event_time.timestamp() * 1e6) for e in events
    }


def test_a_run_cut_off_by_expiry_is_told_whole(desk: Desk) -> None:
    """The profile told is the one with this chunk's events, not the one held before it."""
    desk.read(event(1, 0, **ANNA))
    changes = desk.read(event(2, 60, **ANNA), event(3, 9000, "other"), event(4, 9001, **ANNA))
    first = min((c for c in changes.contributions if c.profile), key=lambda c: c.started_us)
    assert first.profile is not None
    assert msgspec.msgpack.decode(first.profile, type=Profile).event_count == 2


def test_a_denial_by_the_user_is_not_undone_by_a_run_that_ends(desk: Desk) -> None:
    desk.join(desk.read(event(1, 0, **ANNA)))
    desk.join(desk.read(User(user_id="anna", consent=False)))
    assert desk.users == {}
    desk.join(desk.read(event(2, 3600)))
    assert desk.users == {}


def test_a_rewrite_cut_short_goes_on_after_the_crash(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_shard, "REWRITTEN_PER_TICK", 2)
    desk.read(*(event(n, n, f"s{n}") for n in range(5)))
    desk.lost = True
    changes = desk.read(tick=True)
    assert (len(changes.rows), changes.rewrite) == (2, True)
    desk.shard.save()
    desk.crash()
    written = [desk.read(tick=True) for _ in range(4)]
    assert sorted(row.key for c in written for row in c.rows) == [f"s{n}" for n in range(5)]
    assert [c.rewrite for c in written] == [True, False, False, False]
    for _ in range(SAVES + 1):
        desk.shard.save()
    desk.crash()
    assert desk.read(tick=True).rows == []
