"""The breaker against its specification, for any order of calls, outcomes, lost probes and time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.monitoring.circuit_breaker import Breaker, BreakerRules, State

RULES = BreakerRules(window=6, volume=4, share=0.4, open_s=2.0, probes=2)


class BreakerMachine(RuleBasedStateMachine):
    """Model the state as plain lists and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10.0
        self.told: list[tuple[str, State]] = []
        self.breaker = Breaker("store", RULES, lambda: self.now, lambda *change: self.told.append(change))
        self.expected: list[tuple[str, State]] = []
        self.state = State.CLOSED
        self.outcomes: list[bool] = []
        self.succeeded = 0
        self.probing: float | None = None
        self.opened = 0.0

    def become(self, state: State) -> None:
        self.state, self.succeeded, self.probing = state, 0, None
        self.expected.append(("store", state))
        if state is State.OPEN:
            self.opened = self.now
        if state is State.CLOSED:
            self.outcomes = []

    @rule(seconds=st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        allowed = self.breaker.allow()
        if self.state is State.CLOSED:
            assert allowed
            return
        if self.state is State.OPEN:
            assert allowed == (self.now - self.opened >= RULES.open_s)
            if allowed:
                self.become(State.HALF_OPEN)
                self.probing = self.now
            return
        free = self.probing is None or self.now - self.probing >= RULES.open_s
        assert allowed == free
        if allowed:
            self.probing = self.now

    @rule(outcomes=st.lists(st.booleans(), min_size=1, max_size=8))
    def calls_end(self, outcomes: list[bool]) -> None:
        """Record outcomes, also of calls that were allowed before it opened."""
        for ok in outcomes:
            self.breaker.record(ok)
            self.end(ok)
            self.it_stands_where_it_should_and_said_so()

    def end(self, ok: bool) -> None:
        if self.state is State.CLOSED:
            # The window slides over all outcomes since the breaker last closed.
            self.outcomes = [*self.outcomes, ok][-RULES.window :]
            failed = self.outcomes.count(False)
            if len(self.outcomes) >= RULES.volume and failed > RULES.share * len(self.outcomes):
                self.become(State.OPEN)
        elif self.state is State.HALF_OPEN:
            self.probing = None
            self.succeeded += 1
            if not ok:
                self.become(State.OPEN)
            elif self.succeeded == RULES.probes:
                self.become(State.CLOSED)

    @precondition(lambda self: self.state is State.HALF_OPEN)
    @rule(ok=st.booleans())
    def a_probe_ends(self, ok: bool) -> None:
        self.breaker.record(ok)
        self.end(ok)

    @precondition(lambda self: self.state is not State.OPEN)
    @rule()
    def a_call_says_nothing(self) -> None:
        self.breaker.release()
        self.probing = None

    @rule(really=st.integers(0, 3))
    def reset(self, really: int) -> None:
        if really == 0:  # rarely, otherwise outcomes never accumulate
            self.breaker.reset()
            self.become(State.CLOSED)

    @invariant()
    def it_stands_where_it_should_and_said_so(self) -> None:
        assert self.breaker.state is self.state
        assert self.told == self.expected


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40)
