"""The outbox against a list of everything ever said: snapshots, crashes and commits that may lag by one."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streaming.sessions.outbox import SAVES, Outbox
from streaming.sessions.user_fold import Contribution


class OutboxMachine(RuleBasedStateMachine):
    """`said` is (snapshot it was said before, what); `owed` is what a process said no more before it died.

    The state last saved is what a new process opens. Of what it says to have been said, the store may lack
    all since the snapshot before the last, since Bytewax commits one snapshot behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.raw: bytes | None = None
        self.saved_rewriting = 0
        self.start([], [])

    def start(self, deletions: list[str], contributions: list[Contribution]) -> None:
        self.outbox = Outbox(self.raw)
        self.snapshot = 0
        self.said: list[tuple[int, str | Contribution]] = []
        self.owed: list[str | Contribution] = [*deletions, *contributions]
        self.fresh = True

    @rule(number=st.integers(0, 9))
    def a_session_expires(self, number: int) -> None:
        if self.fresh:
            self.say_again(set())
        self.outbox.deleted.append(f"s{number}")
        self.said.append((self.snapshot, f"s{number}"))

    @rule(number=st.integers(0, 9), profile=st.sampled_from([None, b"run"]))
    def a_run_ends(self, number: int, profile: bytes | None) -> None:
        if self.fresh:
            self.say_again(set())
        said = Contribution(f"u{number}", "s", number, profile=profile)
        self.outbox.contributions.append(said)
        self.said.append((self.snapshot, said))

    @rule(held=st.sets(st.integers(0, 9).map(lambda n: f"s{n}")))
    def say_again(self, held: set[str]) -> None:
        """At the first chunk of a process; at every other it finds nothing."""
        changes = self.outbox.again(held)
        expected = [s for s in self.owed if not (isinstance(s, str) and s in held)]
        assert changes.deleted == [s for s in expected if isinstance(s, str)]
        assert changes.contributions == [s for s in expected if isinstance(s, Contribution)]
        assert changes.rows == []
        self.said += [(self.snapshot, s) for s in expected]
        self.owed, self.fresh = [], False

    @rule()
    def save(self) -> None:
        self.raw = self.outbox.save()
        self.snapshot += 1
        since = self.snapshot - SAVES
        self.open_with = self.owed + [what for when, what in self.said if when >= since]
        assert (self.outbox.deleted, self.outbox.contributions) == ([], [])

    @rule()
    def crash(self) -> None:
        """What was said since the last snapshot is of events that are read again."""
        found = [] if self.raw is None else self.open_with
        self.start(
            [s for s in found if isinstance(s, str)], [s for s in found if isinstance(s, Contribution)]
        )

    @invariant()
    def nothing_is_held_for_ever(self) -> None:
        held = [*self.outbox.deleted, *self.outbox.contributions]
        assert len(held) == sum(when == self.snapshot for when, _ in self.said)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=80, stateful_step_count=30)


class RewriteMachine(RuleBasedStateMachine):
    """The rewrite of an emptied store: `due` counts the snapshots until it is certain to be in the store."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: bytes | None = None
        self.outbox = Outbox()
        self.due = 0
        self.saved_due = 0

    @rule()
    def the_store_is_rewritten(self) -> None:
        """As the shard says it, at the start and for as long as rows are left."""
        self.outbox.interrupted = False
        self.outbox.rewriting = SAVES
        self.due = SAVES

    @rule()
    def save(self) -> None:
        self.raw = self.outbox.save()
        self.saved_due = self.due
        if not self.outbox.interrupted:
            self.due = max(self.due - 1, 0)

    @rule()
    def crash(self) -> None:
        self.outbox = Outbox(self.raw)
        # Cut short once, it has to start over: whole, until it is certain.
        self.due = SAVES if self.saved_due > 0 else 0

    @invariant()
    def a_rewrite_cut_short_is_known_until_it_is_certain(self) -> None:
        assert self.outbox.rewriting == self.due
        if self.outbox.interrupted:
            assert self.due == SAVES


TestRewriteMachine = RewriteMachine.TestCase
TestRewriteMachine.settings = settings(max_examples=60, stateful_step_count=20)


def test_a_rewrite_is_remembered_for_two_snapshots_and_no_longer() -> None:
    """By the second one Bytewax has committed the first; a third would write an untouched store again."""
    outbox = Outbox()
    outbox.rewriting = SAVES
    assert [Outbox(outbox.save()).interrupted for _ in range(SAVES + 1)] == [True, True, False]


def test_an_interrupted_rewrite_waits_for_its_beginning_however_often_it_is_saved() -> None:
    outbox = Outbox()
    outbox.rewriting = SAVES
    raw = outbox.save()
    for _ in range(5):
        again = Outbox(raw)
        again.save()
        raw = again.save()
        assert again.interrupted
    assert Outbox(raw).rewriting == SAVES
