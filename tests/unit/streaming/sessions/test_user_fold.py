"""`user_recent`: contributions against a plain dictionary; a shard's ticks, erasures and restarts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.groups import user_recent
from feature_repo.groups.session_profile import COUNTED, Profile, SessionRules
from feature_repo.groups.user_recent import ATTRIBUTES, GROUP, LAST_ITEMS, LAST_QUERIES, merge
from feature_repo.online import decode_value, layout_of
from feature_repo.online.row_encoder import RowEncoder
from feature_repo.settings import Settings
from streaming.sessions.session_fold import FoldRules, last_of
from streaming.sessions.state_files import StateFolder
from streaming.sessions.user_fold import SESSIONS, Contribution, apply, rows_of
from streaming.sessions.user_shard import LATEST_TICKS, ROWS_PER_TICK, TICKS_PER_JOIN, UserNews, UserShard

ENCODERS = (RowEncoder(user_recent.GROUP),)
S = 1_000_000
T0 = 1_717_243_200 * S
DAY = 86_400 * S
RULES = SessionRules(1800 * S, 1800.0 * S)


def profile(started: int, last: int, item: str = "i") -> Profile:
    return Profile(
        started,
        last,
        started,
        "anna",
        event_count=1,
        counts=[0, 0, 1, 0, 0, 0, 0],
        items={item: (last, 1.0)},
        attrs={f"category:{item}": 1.0},
        queries=[f"q {item}"],
    )


def said(session: str, started: int, last: int, user: str = "anna", item: str = "i") -> Contribution:
    raw = msgspec.msgpack.encode(profile(started, last, item))
    return Contribution(user, session, started, last, raw)


def count(raw: bytes | None) -> int:
    if raw is None:
        return 0
    [row] = rows_of("anna", raw, RULES, ENCODERS)
    return int(decode_value(row.values[layout_of(GROUP).names.index("event_count")]))


@st.composite
def contributions(draw: st.DrawFn) -> list[Contribution]:
    found = []
    for _ in range(draw(st.integers(1, 30))):
        session, started = f"s{draw(st.integers(0, 4))}", T0 + draw(st.integers(0, 3)) * 3600 * S
        if draw(st.integers(0, 5)) == 0:
            found.append(Contribution("anna", session, started))
        else:
            found.append(said(session, started, started + draw(st.integers(0, 1800)) * S))
    return found


@settings(max_examples=200, deadline=None)
@given(contributions(), st.integers(1, 5))
def test_the_newest_contribution_of_each_run_counts(given_: list[Contribution], chunk: int) -> None:
    raw: bytes | None = None
    for start in range(0, len(given_), chunk):
        raw = apply(raw, given_[start : start + chunk])
    runs: dict[tuple[str, int], Contribution] = {}
    for c in given_:
        if c.profile is None:
            runs.pop((c.session_id, c.started_us), None)
        else:
            runs[c.session_id, c.started_us] = c
    assert count(raw) == len(runs)
    if raw is not None:
        assert last_of(raw) == max(c.last_us for c in runs.values())


def test_sessions_older_than_a_day_before_the_newest_go() -> None:
    raw = apply(None, [said("a", T0, T0), said("b", T0 + DAY, T0 + DAY)])
    assert count(raw) == 2
    assert count(apply(raw, [said("c", T0 + DAY + 1, T0 + DAY + 1)])) == 2


def test_a_user_holds_so_many_sessions_and_no_more() -> None:
    raw = apply(None, [said(f"s{n}", T0 + n, T0 + n) for n in range(SESSIONS + 25)])
    assert count(raw) == SESSIONS
    [row] = rows_of("anna", raw or b"", RULES, ENCODERS)
    assert row.micros == T0 + SESSIONS + 24


def test_erasing_a_user_leaves_nothing() -> None:
    raw = apply(None, [said("a", T0, T0), said("b", T0, T0)])
    assert apply(raw, [Contribution("anna")]) is None
    assert count(apply(raw, [Contribution("anna"), said("c", T0, T0)])) == 1


def test_lists_of_a_user_are_capped() -> None:
    many = [profile(T0 + n, T0 + n, f"i{n:03d}") for n in range(ATTRIBUTES + 40)]
    row = merge(many, RULES)
    assert len(row["item_ids"]) == len(row["item_weights"]) == LAST_ITEMS
    assert row["item_ids"][0] == f"i{ATTRIBUTES + 39:03d}"
    assert len(row["attr_keys"]) == len(row["attr_weights"]) == ATTRIBUTES
    assert len(row["queries"]) == LAST_QUERIES
    assert sum(row["category_shares"]) == pytest.approx(1.0)
    assert row["click_count"] == row["event_count"] == len(many)
    assert set(row) == {f.name for f in GROUP.features}
    assert len(COUNTED) == 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.db"


def opened(path: Path) -> UserShard:
    return UserShard(0, FoldRules.of(Settings()), StateFolder(path), ENCODERS)


def due(shard: UserShard) -> list[UserNews]:
    """As many ticks as it takes until a write is due."""
    return [UserNews(shard.number, tick=True)] * TICKS_PER_JOIN


def test_a_busy_user_costs_one_row_per_write(path: Path) -> None:
    shard = opened(path)
    for n in range(50):
        changes = shard.process(UserNews(0, [said("a", T0, T0 + n)]))
        assert (changes.rows, changes.deleted) == ([], [])
    rows = [row for news in due(shard) for row in shard.process(news).rows]
    assert [(row.key, row.micros) for row in rows] == [("anna", T0 + 49)]
    assert [row for news in due(shard) for row in shard.process(news).rows] == []


def test_shards_take_turns(tmp_path: Path) -> None:
    turns = []
    for number in range(TICKS_PER_JOIN):
        shard = UserShard(number, FoldRules.of(Settings()), StateFolder(tmp_path / f"{number}"), ENCODERS)
        shard.process(UserNews(number, [said("a", T0, T0)]))
        written = [bool(shard.process(UserNews(number, tick=True)).rows) for _ in range(TICKS_PER_JOIN)]
        assert written.count(True) == 1
        turns.append(written.index(True))
    assert sorted(turns) == list(range(TICKS_PER_JOIN))


def test_a_crowd_is_written_in_portions_and_at_the_end_at_once(path: Path) -> None:
    shard = opened(path)
    crowd = [said("a", T0, T0, user=f"u{n}") for n in range(2 * ROWS_PER_TICK + 30)]
    shard.process(UserNews(0, crowd))
    sizes = [len(shard.process(news).rows) for news in due(shard)]
    assert sizes == [0] * (TICKS_PER_JOIN - 1) + [ROWS_PER_TICK]
    assert len(shard.process(UserNews(0, tick=True)).rows) == ROWS_PER_TICK
    assert len(shard.process(UserNews(0, last=True)).rows) == 30


@pytest.mark.parametrize("per_tick", [50, 400])
def test_every_user_is_written_within_the_minute_however_many_they_are(path: Path, per_tick: int) -> None:
    """A tick is a second. Distinct users come at a steady rate, then no more: none waits longer than due."""
    shard, came, number, most = opened(path), dict[str, int](), 0, 0
    for tick in range(150):
        new = [f"u{number + n}" for n in range(per_tick if tick < 90 else 0)]
        number += len(new)
        came |= dict.fromkeys(new, tick)
        rows = shard.process(UserNews(0, [said("a", T0, T0, user=user) for user in new], tick=True)).rows
        waited = [tick - came.pop(row.key) for row in rows]
        assert max(waited, default=0) <= LATEST_TICKS + TICKS_PER_JOIN < 60
        most = max(most, len(rows) if tick < 90 else 0)
    assert came == {}
    assert most <= max(ROWS_PER_TICK, 2 * per_tick)


def test_a_snapshot_between_two_turns_costs_a_busy_user_no_further_row(path: Path) -> None:
    shard, rows = opened(path), 0
    for tick in range(4 * TICKS_PER_JOIN):
        rows += len(shard.process(UserNews(0, [said("a", T0, T0 + tick)], tick=True)).rows)
        shard.save()
    assert rows == 4


def test_a_row_that_goes_back_in_time_is_deleted_first(path: Path) -> None:
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0), said("b", T0 + 5, T0 + 5)], last=True))
    changes = shard.process(UserNews(0, [Contribution("anna", "b", T0 + 5)], last=True))
    assert changes.deleted == ["anna"]
    assert [row.micros for row in changes.rows] == [T0]
    changes = shard.process(UserNews(0, [Contribution("anna")], last=True))
    assert (changes.deleted, changes.rows) == (["anna"], [])


def test_what_waits_to_be_written_survives_a_restart(path: Path) -> None:
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0)]))
    shard.save()
    changes = opened(path).process(UserNews(0, last=True))
    assert [row.key for row in changes.rows] == ["anna"]


def test_users_expire_with_the_horizon(path: Path) -> None:
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0)], last=True))
    for news in due(shard):
        shard.process(UserNews(news.shard, tick=True, horizon_us=T0 + 1))
    shard.save()
    file = StateFolder(path)
    assert file.load() == {}
    file.close()


def test_an_emptied_store_gets_every_user_again(path: Path) -> None:
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0, user=f"u{n}") for n in range(3)], last=True))
    changes = shard.process(UserNews(0, rewrite=True, last=True))
    assert sorted(row.key for row in changes.rows) == ["u0", "u1", "u2"]


def test_rows_the_store_did_not_get_are_written_after_a_crash(path: Path) -> None:
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0)]))
    shard.save()
    assert [row.key for news in due(shard) for row in shard.process(news).rows] == ["anna"]
    shard.save()
    shard = opened(path)  # the row was handed on, but the process died before the store had it
    assert [row.key for row in shard.process(UserNews(0, last=True)).rows] == ["anna"]


def test_rows_certain_to_be_written_are_not_written_again(path: Path) -> None:
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0)], last=True))
    for _ in range(3):
        shard.save()
    assert opened(path).process(UserNews(0, last=True)).rows == []


def test_a_run_taken_back_before_a_crash_is_deleted_first_after_it(path: Path) -> None:
    """Else the store refuses the smaller row as the older one, and a denied session stays in it."""
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0), said("b", T0 + 5, T0 + 5)], last=True))
    for _ in range(3):
        shard.save()
    shard.process(UserNews(0, [Contribution("anna", "b", T0 + 5)]))
    shard.save()
    shard = opened(path)
    for _ in range(2):  # the second time as if the first had not reached the store
        changes = shard.process(UserNews(0, last=True))
        assert (changes.deleted, [row.micros for row in changes.rows]) == (["anna"], [T0])
        shard.save()
        shard = opened(path)


@pytest.mark.parametrize("ttl_s", [600.0, 86_400.0, 10 * 86_400.0])
def test_users_are_kept_for_their_own_window_whatever_the_life_of_sessions(path: Path, ttl_s: float) -> None:
    rules = FoldRules.of(Settings(session_ttl_s=ttl_s))
    shard = UserShard(0, rules, StateFolder(path), ENCODERS)
    shard.process(UserNews(0, [said("a", T0, T0)], last=True))
    for now, deleted in ((T0 + DAY, []), (T0 + DAY + 1, ["anna"])):
        news = UserNews(0, tick=True, horizon_us=now - rules.ttl_us)
        found = [user for _ in range(TICKS_PER_JOIN) for user in shard.process(news).deleted]
        assert found == deleted


def test_a_rewrite_of_users_survives_a_crash(path: Path) -> None:
    shard = opened(path)
    shard.process(UserNews(0, [said("a", T0, T0, user=f"u{n}") for n in range(3)], last=True))
    for _ in range(3):
        shard.save()
    shard.process(UserNews(0, rewrite=True))
    shard.save()
    changes = opened(path).process(UserNews(0, last=True))
    assert sorted(row.key for row in changes.rows) == ["u0", "u1", "u2"]
