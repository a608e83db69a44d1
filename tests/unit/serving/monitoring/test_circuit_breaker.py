"""The circuit breaker's state machine, against a naive window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.monitoring.circuit_breaker import Breaker, BreakerRules, State

RULES = BreakerRules(window=20, volume=10, share=0.2, open_s=5.0, probes=2)


class Ticks:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def changes() -> list[State]:
    return []


@pytest.fixture
def breaker(ticks: Ticks, changes: list[State]) -> Breaker:
    return Breaker("store", RULES, ticks, lambda _, state: changes.append(state))


def fail(breaker: Breaker, times: int, ok: bool = False) -> None:
    for _ in range(times):
        assert breaker.allow()
        breaker.record(ok)


def opened(breaker: Breaker) -> Breaker:
    fail(breaker, RULES.volume)
    assert breaker.state is State.OPEN
    return breaker


def test_it_does_not_open_below_its_volume(breaker: Breaker) -> None:
    fail(breaker, RULES.volume - 1)
    assert breaker.state is State.CLOSED
    fail(breaker, 1)
    assert breaker.state is State.OPEN


def test_it_does_not_open_at_the_share_but_above_it(breaker: Breaker) -> None:
    fail(breaker, 16, ok=True)
    fail(breaker, 4)
    assert breaker.state is State.CLOSED, "4 of 20 equals the share"
    fail(breaker, 1)
    assert breaker.state is State.OPEN, "5 of 20 is above it"


def test_what_left_the_window_no_longer_counts(breaker: Breaker) -> None:
    fail(breaker, 20, ok=True)
    fail(breaker, 4)
    fail(breaker, 16, ok=True)
    fail(breaker, 4)
    assert breaker.state is State.CLOSED


def test_open_lets_nothing_through_until_its_time(breaker: Breaker, ticks: Ticks) -> None:
    opened(breaker)
    assert not breaker.allow()
    ticks.now += 4.9
    assert not breaker.allow()
    ticks.now += 0.1
    assert breaker.allow()
    assert breaker.state is State.HALF_OPEN


def test_half_open_lets_one_probe_through_at_a_time(breaker: Breaker, ticks: Ticks) -> None:
    opened(breaker)
    ticks.now += 5
    assert breaker.allow()
    assert not breaker.allow()
    breaker.record(True)
    assert breaker.allow()


def test_probes_that_succeed_close_it(breaker: Breaker, ticks: Ticks, changes: list[State]) -> None:
    opened(breaker)
    ticks.now += 5
    fail(breaker, 2, ok=True)
    assert changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    fail(breaker, RULES.volume - 1)
    assert breaker.state is State.CLOSED, "old failures are forgotten"


def test_a_probe_that_fails_opens_it_again(breaker: Breaker, ticks: Ticks) -> None:
    opened(breaker)
    ticks.now += 5
    fail(breaker, 1, ok=True)
    fail(breaker, 1)
    assert breaker.state is State.OPEN
    assert not breaker.allow()


def test_a_probe_that_never_reports_does_not_block_for_ever(breaker: Breaker, ticks: Ticks) -> None:
    opened(breaker)
    ticks.now += 5
    assert breaker.allow()
    ticks.now += 5
    assert breaker.allow()


def test_a_released_probe_makes_room_for_another(breaker: Breaker, ticks: Ticks) -> None:
    opened(breaker)
    ticks.now += 5
    assert breaker.allow()
    breaker.release()
    assert breaker.allow()


def test_a_call_that_ends_after_it_opened_changes_nothing(breaker: Breaker) -> None:
    opened(breaker)
    breaker.record(True)
    assert breaker.state is State.OPEN


@given(st.lists(st.booleans(), max_size=120), st.integers(1, 30), st.integers(1, 30), st.floats(0.0, 0.9))
def test_it_opens_exactly_when_the_window_says_so(
    outcomes: list[bool], window: int, volume: int, share: float
) -> None:
    breaker = Breaker("x", BreakerRules(window, volume, share), lambda: 0.0)
    for number in range(1, len(outcomes) + 1):
        breaker.record(outcomes[number - 1])
        seen = outcomes[max(0, number - window) : number]
        should = len(seen) >= volume and seen.count(False) > share * len(seen)
        assert (breaker.state is State.OPEN) == should
        if should:
            break


def test_what_leaves_the_window_is_taken_off_once() -> None:
    breaker = Breaker("x", BreakerRules(window=4, volume=4, share=0.5), lambda: 0.0)
    fail(breaker, 1)
    fail(breaker, 4, ok=True)
    fail(breaker, 2)
    assert breaker.state is State.CLOSED, "2 of the last 4 equals the share"
    fail(breaker, 1)
    assert breaker.state is State.OPEN


def test_reset_forgets_what_was_counted() -> None:
    breaker = Breaker("x", BreakerRules(window=4, volume=4, share=0.5), lambda: 0.0)
    fail(breaker, 2)
    breaker.reset()
    fail(breaker, 2, ok=True)
    fail(breaker, 2)
    assert breaker.state is State.CLOSED, "2 of 4 since"
