"""Experiments: assignment is stable, fair and exclusive."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from feature_repo.errors import SettingsError
from serving.control.experiments import Arm, Assignment, Experiment, assign, check_experiments, fraction

ONE = Experiment(name="one", arms={"control": Arm(), "bold": Arm(weight=3.0, flags={"cap.positions": 9})})
TWO = Experiment(name="two", layer="other", arms={"a": Arm(), "b": Arm()})
LEFT = Experiment(name="left", stop=0.5, arms={"a": Arm(), "b": Arm()})
RIGHT = Experiment(name="right", start=0.5, arms={"a": Arm(), "b": Arm()})
USERS = [f"user-{n}" for n in range(20_000)]


def near(count: int, share: float, total: int) -> bool:
    return abs(count - share * total) < 5 * (share * (1 - share) * total) ** 0.5


def test_shares_are_those_declared() -> None:
    arms = Counter(assign([ONE], 0.05, user, None).arms.get("one", "held out") for user in USERS)
    assert near(arms["held out"], 0.05, len(USERS))
    assert near(arms["control"], 0.95 * 0.25, len(USERS))
    assert near(arms["bold"], 0.95 * 0.75, len(USERS))


def test_the_holdout_is_the_same_whatever_experiments_there_are() -> None:
    alone = {user for user in USERS if assign([], 0.05, user, None).held_out}
    among = {user for user in USERS if assign([ONE, TWO], 0.05, user, "s").held_out}
    assert alone == among
    wider = {user for user in USERS if assign([], 0.10, user, None).held_out}
    assert alone < wider


def test_experiments_of_one_layer_exclude_each_other_and_layers_are_independent() -> None:
    found = [assign([LEFT, RIGHT, TWO], 0.0, user, None).arms for user in USERS]
    assert all(("left" in arms) != ("right" in arms) for arms in found)
    assert near(sum("left" in arms for arms in found), 0.5, len(USERS))
    table = np.zeros((2, 2))
    for arms in found:
        table[int("left" in arms), int(arms["two"] == "a")] += 1
    assert chi2_contingency(table).pvalue > 1e-4


def test_arms_of_two_experiments_are_independent_and_a_salt_draws_anew() -> None:
    salted = Experiment(name="one", salt="again", layer="other", arms=dict(ONE.arms))
    table = np.zeros((2, 2))
    for user in USERS:
        first, second = (assign([e], 0.0, user, None).arms["one"] == "bold" for e in (ONE, salted))
        table[int(first), int(second)] += 1
    assert chi2_contingency(table).pvalue > 1e-4


@given(st.text(max_size=20), st.one_of(st.none(), st.text(max_size=20)))
def test_the_same_unit_gets_the_same_arm_each_time(user: str, session: str | None) -> None:
    first = assign([ONE, TWO], 0.05, user, session)
    assert first == assign([ONE, TWO], 0.05, user, session)
    assert dict(first.arms) == dict(assign([TWO, ONE], 0.05, user, "another session").arms)
    assert 0.0 <= fraction("salt", user) < 1.0


def test_without_a_user_the_session_is_the_unit_and_nobody_is_in_nothing() -> None:
    anonymous = assign([ONE], 0.0, None, "s-1")
    assert anonymous.arms == assign([ONE], 0.0, None, "s-1").arms
    assert set(anonymous.arms) == {"one"}
    assert assign([ONE], 1.0, None, None) == Assignment()
    by_session = Experiment(name="x", unit="session", arms=dict(TWO.arms))
    arms = {assign([by_session], 0.0, "u", f"s{n}").arms["x"] for n in range(40)}
    assert arms == {"a", "b"}
    assert assign([by_session], 0.0, "u", None).arms == {}


def test_arms_set_their_flags() -> None:
    bold = next(user for user in USERS if assign([ONE], 0.0, user, None).arms["one"] == "bold")
    assert assign([ONE], 0.0, bold, None).flags == {"cap.positions": 9}


def test_overrides_choose_arms_and_holdout_and_strange_ones_are_ignored() -> None:
    held = next(user for user in USERS if assign([], 0.05, user, None).held_out)
    free = next(user for user in USERS if not assign([], 0.05, user, None).held_out)
    assert assign([ONE], 0.05, free, None, {"one": "bold"}).arms == {"one": "bold"}
    assert assign([ONE], 0.05, free, None, {"holdout": "in"}).held_out
    assert not assign([ONE], 0.05, held, None, {"holdout": "out"}).held_out
    assert assign([ONE], 0.05, free, None, {"one": "none", "x": "y"}) == assign([ONE], 0.05, free, None)


def test_overlapping_ranges_and_double_names_are_refused() -> None:
    check_experiments([LEFT, RIGHT, TWO])
    with pytest.raises(SettingsError, match=r"left and one overlap in layer 'main' .* disjoint ranges or"):
        check_experiments([LEFT, ONE])
    with pytest.raises(SettingsError, match="'two' occurs twice; names must be unique"):
        check_experiments([TWO, TWO])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "holdout"}, "'holdout' names the permanent holdout; choose another name"),
        ({"start": 0.5, "stop": 0.5}, "start 0.5 must be below stop 0.5"),
    ],
)
def test_experiments_that_cannot_be_are_explained(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Experiment(**{"name": "x", "arms": dict(TWO.arms), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "Bad Name", "arms": {"a": {}, "b": {}}},
        {"name": "x", "arms": {"a": {}}},
        {"name": "x", "arms": {"a": {"weight": 0}, "b": {}}},
        {"name": "x", "arms": {"a": {}, "b": {}}, "stop": 1.5},
        {"name": "x", "arms": {"a": {}, "b": {}}, "colour": "red"},
    ],
)
def test_malformed_experiments_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw, Experiment)


borders = st.lists(st.integers(0, 100), min_size=2, max_size=6, unique=True).map(sorted)


@given(borders, st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=20))
def test_disjoint_ranges_hold_each_unit_at_most_once_and_a_new_one_moves_nobody(
    cuts: list[int], users: list[str]
) -> None:
    every = [
        Experiment(name=f"e{n}", start=low / 100, stop=high / 100, arms={"a": Arm(), "b": Arm()})
        for n, (low, high) in enumerate(pairwise(cuts))
    ]
    check_experiments(every)
    for user in users:
        arms = assign(every, 0.0, user, None).arms
        place = fraction("layer:main", user)
        assert len(arms) == int(cuts[0] / 100 <= place < cuts[-1] / 100)
        fewer = assign(every[1:], 0.0, user, None).arms
        assert fewer.items() <= arms.items()
        assert set(arms) - set(fewer) <= {"e0"}


@given(st.floats(0, 1), st.floats(0, 1), st.text(min_size=1, max_size=10))
def test_a_wider_holdout_holds_all_the_narrower_held(first: float, second: float, user: str) -> None:
    narrow, wide = sorted((first, second))
    held, held_by_wider = (assign([], share, user, None).held_out for share in (narrow, wide))
    assert held <= held_by_wider


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=5), st.text(min_size=1, max_size=10))
def test_every_unit_of_a_range_gets_an_arm(weights: list[float], user: str) -> None:
    arms = {f"arm{n}": Arm(weight=weight) for n, weight in enumerate(weights)}
    assert assign([Experiment(name="x", arms=arms)], 0.0, user, None).arms["x"] in arms
