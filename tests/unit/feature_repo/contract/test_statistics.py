"""The replay's statistics against the naive oracle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalogue import catalogue_of
from feature_repo.contract.validation import Event, Item, User
from feature_repo.group import BatchParams
from feature_repo.settings import Settings
from feature_repo.statistics import Statistics
from tests.oracles.statistics_oracle import Oracle, differences
from tests.support.events_strategy import AGES, AS_OF, World, worlds

PARAMS = BatchParams.of(Settings(), AS_OF)
T0 = datetime(2024, 5, 1, tzinfo=UTC)


def statistics_of(world: World, params: BatchParams) -> Statistics:
    statistics = Statistics(params, catalogue_of(world.items), {u.user_id: u for u in world.users})
    for event in world.events:
        statistics.add(event)
    return statistics


def assert_equal_to_oracle(world: World, statistics: Statistics, params: BatchParams) -> None:
    oracle = Oracle(world.events, world.items, world.users, params)
    now = params.as_of
    users = oracle.user_profile()
    assert differences(users, {u: statistics.user_profile(u, now) for u in users}) == []
    segments = oracle.segment_profile()
    assert differences(segments, {s: statistics.segment_profile(s, now) for s in segments}) == []
    items = oracle.item_profile()
    found = statistics.items(list(items), now)
    for place, (item_id, row) in enumerate(items.items()):
        for name in ("impressions", "clicks", "purchases", "ctr", "ctr_debiased"):
            assert differences(row[name], float(getattr(found, name)[place]), f"{item_id}.{name}") == []
        popularity = [row[f"popularity_{name}"] for name in ("short", "mid", "long")]
        assert differences(popularity, found.popularity[place].tolist(), item_id) == []
    for item_id, row in oracle.item_neighbours().items():
        counts, sessions = statistics.neighbours(item_id, now)
        after, total = statistics.following(item_id, now)
        found = [list(counts), list(counts.values()), sessions, list(after), list(after.values()), total]
        assert found == list(row.values())


@given(
    worlds(),
    st.sampled_from([PARAMS, replace(PARAMS, affinity_top_k=1, neighbours_top_k=1, consent_default=False)]),
)
@settings(max_examples=60, deadline=None)
def test_every_statistic_equals_the_oracle_at_every_moment(world: World, params: BatchParams) -> None:
    statistics = statistics_of(world, params)
    for age in sorted(AGES, reverse=True):
        at = replace(params, as_of=AS_OF - age)
        assert_equal_to_oracle(world, statistics, at)


def click(number: int, item: str, time: datetime, user: str | None = "u", session: str = "s") -> Event:
    return Event(
        event_id=f"e{number}",
        event_type="click",
        event_time=time,
        session_id=session,
        user_id=user,
        item_id=item,
    )


def test_an_event_at_the_moment_of_reading_does_not_count_though_added() -> None:
    statistics = Statistics(PARAMS, {})
    statistics.add(click(1, "i", T0))
    assert statistics.user_profile("u", T0) is None
    assert statistics.items(["i"], T0).clicks[0] == 0
    later = statistics.user_profile("u", T0 + timedelta(microseconds=1))
    assert later is not None
    assert later["click_count_1d"] == 1


def test_what_comes_out_of_order_is_refused() -> None:
    statistics = Statistics(PARAMS, {})
    statistics.add(click(1, "i", T0))
    with pytest.raises(
        ValueError, match=r"event e2 at 2024-04-30.*older than the previous one; sort by time"
    ):
        statistics.add(click(2, "i", T0 - timedelta(days=1)))
    statistics.user_profile("u", T0 + timedelta(days=1))
    with pytest.raises(ValueError, match=r"a read as of 2024-05-01.*read in time order"):
        statistics.user_profile("u", T0)


def test_what_was_never_met_has_the_prior() -> None:
    statistics = Statistics(PARAMS, {})
    found = statistics.items(["never"], T0)
    assert (found.ctr[0], found.ctr_debiased[0], found.impressions[0]) == (0.1, 1.0, 0.0)
    assert found.popularity_total.tolist() == [0.0, 0.0, 0.0]
    assert found.first_seen_s[0] != found.first_seen_s[0]
    assert statistics.items([], T0).ctr.shape == (0,)
    assert statistics.user_profile("nobody", T0) is None
    assert statistics.segment_profile("likes:nothing", T0) is None
    assert statistics.segment_of("nobody", T0) == "all"
    assert statistics.neighbours("never", T0) == ({}, 0)
    everyone = statistics.segment_profile("all", T0)
    assert everyone is not None
    assert everyone["user_count"] == 0


def test_popularity_total_is_the_sum_over_all_items() -> None:
    statistics = Statistics(PARAMS, {})
    for number, item in enumerate("abcab"):
        statistics.add(click(number, item, T0 + timedelta(minutes=7 * number)))
    found = statistics.items(["a", "b", "c"], T0 + timedelta(hours=3))
    assert found.popularity.sum(axis=0) == pytest.approx(found.popularity_total, rel=1e-12)
    assert found.first_seen_s.tolist() == [(T0 + timedelta(minutes=7 * n)).timestamp() for n in range(3)]


def test_sixty_years_of_clicks_stay_finite_and_equal_to_the_oracle() -> None:
    """Affinities decay over 700 half-lives here, more than a float's exponent holds unscaled."""
    items = [Item(item_id=i, categories=(i.upper(),), price=1.0) for i in "abc"]
    start = datetime(1990, 1, 1, tzinfo=UTC)
    events = [click(n, "abc"[n % 3], start + timedelta(days=400 * n), user=f"u{n % 2}") for n in range(55)]
    world = World(events, items, [User(user_id="u1", attributes={"segment": "old"})])
    for count in (1, 20, 54, 55):
        at = replace(PARAMS, as_of=events[count - 1].event_time + timedelta(days=3))
        assert_equal_to_oracle(world, statistics_of(world, at), at)


def test_a_session_of_a_robot_keeps_the_last_fifty_items_only() -> None:
    events = [click(n, f"i{n % 70:02}", T0 + timedelta(seconds=n), user=None) for n in range(120)]
    world = World(events, [], [])
    at = replace(PARAMS, as_of=T0 + timedelta(hours=1))
    statistics = statistics_of(world, at)
    assert_equal_to_oracle(world, statistics, at)
    assert statistics.neighbours("i50", at.as_of) == ({}, 0)
    assert statistics.neighbours("i49", at.as_of)[1] == 1
