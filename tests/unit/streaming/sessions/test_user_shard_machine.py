"""A shard of users, its file and a store that refuses older rows, through crashes at any moment.

After whatever happened, once all that waits is written the store holds of every user exactly the runs that
were contributed and not taken back: none lost by a crash, none twice, none that was withdrawn.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from feature_repo.groups import user_recent
from feature_repo.groups.session_profile import COUNTED, Profile
from feature_repo.groups.user_recent import GROUP
from feature_repo.online import decode_value, layout_of
from feature_repo.online.row_encoder import RowEncoder
from feature_repo.settings import Settings
from streaming.sessions.session_fold import FoldRules
from streaming.sessions.state_files import StateFolder
from streaming.sessions.user_fold import SESSIONS, Contribution, UserChanges, apply, rows_of
from streaming.sessions.user_shard import UserNews, UserShard

ENCODERS = (RowEncoder(user_recent.GROUP),)
S = 1_000_000
T0 = 1_717_243_200 * S
USERS = st.sampled_from(["anna", "ben", "cleo"])
RULES = FoldRules.of(Settings())
ROW = layout_of(GROUP).names
RUNS = ROW.index("session_count")
ITEMS = ROW.index("item_ids")


def run(user: str, number: int, length: int) -> Contribution:
    """A run that began at its number's minute and has lasted so long; it touched one item of its own."""
    return lasting(user, number, T0 + number * 60 * S, length * S)


def lasting(user: str, number: int, started: int, length: int) -> Contribution:
    last = started + length
    held = Profile(started, last, started, user, event_count=1, counts=[0] * len(COUNTED))
    held.items[f"i{number}"] = (last, 1.0)
    return Contribution(user, f"s{number}", started, last, msgspec.msgpack.encode(held))


def wanted(contributions: list[Contribution]) -> dict[str, dict[str, Contribution]]:
    """By user the newest contribution of each run; runs and users taken back are none."""
    found: dict[str, dict[str, Contribution]] = {}
    for said in contributions:
        runs = found.setdefault(said.user_id, {})
        if not said.session_id:
            runs.clear()
        elif said.profile is None:
            runs.pop(said.session_id, None)
        else:
            runs[said.session_id] = said
    return {user: runs for user, runs in found.items() if runs}


class UserShardMachine(RuleBasedStateMachine):
    """`sent` are contributions by the snapshot before which they came, `in_flight` what was handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-users-"))
        self.file = StateFolder(self.folder / "users")
        self.shard = UserShard(0, RULES, self.file, ENCODERS)
        self.snapshot = 0
        self.sent: list[tuple[int, Contribution]] = []
        self.in_flight: list[tuple[int, UserChanges]] = []
        self.store: dict[str, tuple[int, int, list[str]]] = {}

    # What the flow and the store do

    def process(self, news: UserNews) -> None:
        changes = self.shard.process(news)
        assert len(set(changes.deleted)) == len(changes.deleted)
        self.in_flight.append((self.snapshot, changes))

    def arrive(self, count: int) -> None:
        for _, changes in self.in_flight[:count]:
            for user in changes.deleted:
                self.store.pop(user, None)
            for row in changes.rows:
                if self.store.get(row.key, (0,))[0] <= row.micros:
                    raws = row.values
                    self.store[row.key] = (row.micros, decode_value(raws[RUNS]), decode_value(raws[ITEMS]))
        del self.in_flight[:count]

    @rule(user=USERS, number=st.integers(0, 4), length=st.integers(0, 50))
    def contribute(self, user: str, number: int, length: int) -> None:
        # A run only grows: the session shard tells it whole each time.
        said = run(user, number, length)
        before = wanted([c for _, c in self.sent]).get(user, {}).get(said.session_id)
        if before is None or before.last_us <= said.last_us:
            self.tell(said)

    @rule(user=USERS, number=st.integers(0, 4))
    def take_back(self, user: str, number: int) -> None:
        self.tell(Contribution(user, f"s{number}", T0 + number * 60 * S))

    @rule(user=USERS)
    def withdraw_consent(self, user: str) -> None:
        self.tell(Contribution(user))

    def tell(self, said: Contribution) -> None:
        self.sent.append((self.snapshot, said))
        self.process(UserNews(0, [said]))

    @rule()
    def tick(self) -> None:
        for _ in range(5):
            self.process(UserNews(0, tick=True, horizon_us=T0))

    @rule(share=st.floats(0, 1))
    def some_of_it_arrives(self, share: float) -> None:
        self.arrive(int(share * len(self.in_flight)))

    @rule()
    def save(self) -> None:
        """A snapshot waits until all that was handed on before the one before it has arrived."""
        self.arrive(sum(when < self.snapshot for when, _ in self.in_flight))
        self.shard.save()
        self.snapshot += 1

    @rule(share=st.floats(0, 1), behind=st.booleans())
    def crash(self, share: float, behind: bool) -> None:
        """Of what is in flight only the first part arrives; events not yet committed are read again."""
        self.arrive(int(share * len(self.in_flight)))
        self.in_flight = []
        self.file.close()
        self.file = StateFolder(self.folder / "users")
        self.shard = UserShard(0, RULES, self.file, ENCODERS)
        committed = max(self.snapshot - 1 if behind else self.snapshot, 0)
        again = [said for when, said in self.sent if when >= committed]
        if again:
            self.process(UserNews(0, again))

    @rule()
    def the_store_is_emptied(self) -> None:
        self.arrive(len(self.in_flight))
        self.store.clear()
        self.process(UserNews(0, rewrite=True))
        self.settle()

    @rule()
    def settle(self) -> None:
        self.process(UserNews(0, last=True))
        self.arrive(len(self.in_flight))
        runs = wanted([said for _, said in self.sent])
        assert self.store.keys() == runs.keys()
        for user, (micros, count, items) in self.store.items():
            assert micros == max(said.last_us for said in runs[user].values())
            assert count == len(runs[user])
            assert sorted(items) == sorted(f"i{name[1:]}" for name in runs[user])

    def teardown(self) -> None:
        self.settle()
        self.file.close()
        shutil.rmtree(self.folder)


TestUserShardMachine = UserShardMachine.TestCase
TestUserShardMachine.settings = settings(max_examples=60, stateful_step_count=30)


def test_of_too_many_sessions_the_newest_are_kept() -> None:
    """Not the oldest, nor those told last."""
    said = [run("anna", n, 0) for n in range(SESSIONS + 5)]
    for order in (said, said[::-1], said[1::2] + said[::2]):
        raw = apply(None, order)
        assert raw is not None
        # A row shows the last items only: what is held is seen when the newer ones are taken back.
        newer = [Contribution(c.user_id, c.session_id, c.started_us) for c in said[20:]]
        [older] = rows_of("anna", apply(raw, newer) or b"", RULES.session, ENCODERS)
        assert decode_value(older.values[RUNS]) == 15
        assert sorted(decode_value(older.values[ITEMS])) == sorted(f"i{n}" for n in range(5, 20))
        assert rows_of("anna", raw, RULES.session, ENCODERS)[0].micros == said[-1].last_us


@given(st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=20, unique=True))
def test_the_window_is_a_day_before_the_newest_to_the_microsecond(seconds: list[int]) -> None:
    said = [lasting("anna", n, T0 + at * S, 0) for n, at in enumerate(seconds)]
    raw = apply(None, said)
    assert raw is not None
    [row] = rows_of("anna", raw, RULES.session, ENCODERS)
    within = [at for at in seconds if at >= max(seconds) - 86_400]
    assert decode_value(row.values[RUNS]) == len(within)
    assert row.micros == T0 + max(seconds) * S
