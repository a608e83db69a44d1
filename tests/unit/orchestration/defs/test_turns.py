"""Whose turn it is: changed days, one run at a time, the newest every other time."""

from __future__ import annotations

import json
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from orchestration.defs.turns import MOST_CHAINS, Asked, changes_since, covered, next_turn

FIRST = date(2024, 5, 20)
TODAY = date(2024, 6, 1)
A, B, C = (TODAY - timedelta(days=n) for n in (2, 1, 0))


def turns(asked: Asked, state: dict[date, str], most: int = 100) -> tuple[list[tuple[date, ...]], Asked]:
    """Runs asked for until nothing is left, each having ended before the next."""
    found = []
    for _ in range(most):
        turn = next_turn(asked, changes_since(asked, state, FIRST, TODAY))
        if turn is None:
            return found, asked
        found.append(turn[0].days)
        asked = turn[1]
    msg = f"never at rest: {found}"
    raise AssertionError(msg)


def test_the_newest_day_goes_first_then_the_others_newest_first() -> None:
    found, asked = turns(Asked(), {A: "1", B: "1", C: "1"})
    assert found == [(C,), (B,), (A,)]
    assert turns(asked, {A: "1", B: "1", C: "1"})[0] == []


def test_one_changed_day_is_one_run() -> None:
    _, asked = turns(Asked(), {A: "1", C: "1"})
    assert turns(asked, {A: "1", C: "2"})[0] == [(C,)]


def test_a_late_day_also_renews_the_newest() -> None:
    _, asked = turns(Asked(), {A: "1", C: "1"})
    assert turns(asked, {A: "2", C: "1"})[0] == [(C,), (A,)]


def test_a_newest_day_that_always_changes_holds_no_other_day_up() -> None:
    _, asked = turns(Asked(), {A: "0", B: "0", C: "0"})
    found = []
    for tick in range(8):
        turn = next_turn(asked, changes_since(asked, {A: "1", B: f"{tick}b", C: f"{tick}c"}, FIRST, TODAY))
        assert turn is not None
        found += turn[0].days
        asked = turn[1]
    assert found[::2] == [C] * 4 or found[1::2] == [C] * 4
    assert {A, B} <= set(found[:4])


def test_a_bulk_load_is_recorded_in_one_run_and_chained_only_for_the_newest() -> None:
    days = [FIRST + timedelta(days=n) for n in range(MOST_CHAINS + 3)]
    found, _ = turns(Asked(), dict.fromkeys(days, "1"))
    assert found[:2] == [(days[-1],), (days[0], days[2])]
    assert [turn[0] for turn in found[2:]] == [*reversed(days[3:-1])]


def test_the_same_state_has_the_same_key_and_another_state_another() -> None:
    def key(state: dict[date, str]) -> str:
        turn = next_turn(Asked(), changes_since(Asked(), state, FIRST, TODAY))
        assert turn is not None
        return turn[0].key

    assert key({A: "1", C: "1"}) == key({C: "1", A: "1"}) != key({A: "2", C: "1"})


def test_every_run_has_a_unique_key() -> None:
    asked, keys = Asked(), []
    for state in ({A: "1", C: "1"}, {A: "2", C: "1"}, {A: "2", B: "1", C: "1"}):
        while (turn := next_turn(asked, changes_since(asked, state, FIRST, TODAY))) is not None:
            keys.append((turn[0].days, turn[0].key))
            asked = turn[1]
    assert len(keys) == len(set(keys)) == 6


def test_a_day_that_is_over_is_built_once_more() -> None:
    _, asked = turns(Asked(), {A: "1", B: "1"})
    found, asked = turns(asked, {A: "1", B: "1", C: "1"})
    assert found == [(C,), (B,)]
    assert turns(asked, {A: "1", B: "1", C: "1"})[0] == []


def test_days_before_the_first_partition_are_separated_and_not_requested() -> None:
    early = FIRST - timedelta(days=400)
    changes = changes_since(Asked(), {early: "1", C: "1"}, FIRST, TODAY)
    assert (changes.before, changes.days) == ((early,), (C,))
    asked = covered(Asked(), changes, [])
    assert changes_since(asked, {early: "1", C: "1"}, FIRST, TODAY).before == ()


def test_a_day_that_has_not_begun_waits() -> None:
    tomorrow = TODAY + timedelta(days=1)
    assert next_turn(Asked(), changes_since(Asked(), {tomorrow: "1"}, FIRST, TODAY)) is None
    assert turns(Asked(), {C: "1", tomorrow: "1"})[0] == [(C,)]
    assert changes_since(Asked(), {tomorrow: "1"}, FIRST, tomorrow).days == (tomorrow,)


def test_a_waiting_run_covers_its_day_in_whatever_state_it_is() -> None:
    _, asked = turns(Asked(), {A: "1", C: "1"})
    state = {A: "1", C: "2"}
    seen = covered(asked, changes_since(asked, state, FIRST, TODAY), [C])
    assert next_turn(seen, changes_since(seen, state, FIRST, TODAY)) is None


def test_days_that_the_lake_dropped_are_forgotten() -> None:
    _, asked = turns(Asked(), {A: "1", C: "1"})
    assert list(covered(asked, changes_since(asked, {C: "1"}, FIRST, TODAY), []).days) == [C.isoformat()]


def test_the_cursor_reads_back_and_that_of_an_earlier_version_too() -> None:
    _, asked = turns(Asked(), {A: "1", B: "1", C: "1"})
    again = Asked.read(asked.write())
    assert (again, list(again.days)) == (asked, list(asked.days))
    assert Asked.read(json.dumps({"2024-05-30": "x"})) == Asked({"2024-05-30": "x"})
    assert Asked.read(None) == Asked.read("") == Asked()


@given(
    st.lists(st.dictionaries(st.sampled_from([A, B, C, FIRST]), st.integers(0, 3), min_size=1), max_size=8)
)
def test_whatever_changes_each_state_is_asked_for_and_it_comes_to_rest(loads: list[dict[date, int]]) -> None:
    asked, state = Asked(), {}
    for load in loads:
        state = {**state, **{day: str(mark) for day, mark in load.items()}}
        _, asked = turns(asked, state)
        changes = changes_since(asked, state, FIRST, TODAY)
        assert asked.days == {day.isoformat(): mark for day, mark in changes.state.items()}
