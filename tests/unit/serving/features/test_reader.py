"""The reader: round trips, time-to-live, freshness, and the fallback when the store fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from feature_repo.errors import StoreError
from feature_repo.groups import all_groups
from serving.features.ranked_groups import ranked_groups
from serving.features.reader import FeatureReader
from serving.features.reading import Reading, ReadLimits
from serving.monitoring.circuit_breaker import Breaker, BreakerRules, State
from tests.support.feature_source import LIMITS, NOW, FakeSource


@pytest.fixture
def source() -> FakeSource:
    fake = FakeSource()
    fake.put("user_profile", "u", segment="likes:shoes")
    fake.put("segment_profile", "likes:shoes", user_count=5)
    fake.put("segment_profile", "all", user_count=50)
    fake.put("session_profile", "s", timedelta(seconds=3), event_count=2)
    return fake


RANKED = ranked_groups()
PERSONAL = [
    *((group.name, "u") for group in RANKED.users),
    ("user_consent", "u"),
    *((group.name, "s") for group in RANKED.sessions),
]
"""The keys that are read for the user and the session of `read`."""


def test_rankings_read_these_groups() -> None:
    assert {("user_profile", "u"), ("user_consent", "u"), ("session_profile", "s")} <= set(PERSONAL)
    assert "segment_profile" in {group.name for group in RANKED.segments}
    assert [group.name for group in RANKED.asked] == ["user_recent"]
    assert (RANKED.profile.name, RANKED.session.name) == ("user_profile", "session_profile")


def reader_of(source: FakeSource, limits: ReadLimits = LIMITS, stale: bool = False) -> FeatureReader:
    return FeatureReader(source, ranked_groups(), limits, stream_stale=lambda: stale)


def read(reader: FeatureReader, user: str | None = "u", session: str | None = "s", s: float = 1.0) -> Reading:
    return asyncio.run(reader.read(user, session, NOW, s))


def test_all_rows_and_their_ages(source: FakeSource) -> None:
    reading = read(reader_of(source))
    assert reading.user is not None
    assert reading.segment is not None
    assert reading.session is not None
    assert reading.segment.values == {"user_count": 5}
    assert reading.ages == {"user_profile": 60.0, "session_profile": 3.0, "segment_profile": 60.0}
    assert reading.codes == []


def test_the_segment_of_a_known_user_comes_in_the_same_round_trip(source: FakeSource) -> None:
    reader = reader_of(source)
    read(reader)
    assert len(source.trips) == 2
    source.trips.clear()
    read(reader)
    assert source.trips == [[*PERSONAL, *((group.name, "likes:shoes") for group in RANKED.segments)]]


def test_a_segment_read_lately_is_not_asked_for_again(source: FakeSource) -> None:
    reader = reader_of(source, replace(LIMITS, segment_reuse=timedelta(minutes=1)))
    read(reader)
    source.trips.clear()
    reading = read(reader)
    assert source.trips == [PERSONAL]
    assert reading.segment is not None
    assert not reading.segment.cached


def test_a_stranger_gets_the_prior_of_everyone(source: FakeSource) -> None:
    reading = read(reader_of(source), user="nobody", session=None)
    assert (reading.user, reading.session) == (None, None)
    assert reading.segment is not None
    assert reading.segment.values == {"user_count": 50}
    assert reading.codes == []


def test_an_unknown_segment_falls_back_to_everyone(source: FakeSource) -> None:
    del source.rows["segment_profile", "likes:shoes"]
    reader = reader_of(source)
    read(reader, user="nobody")
    reading = read(reader)
    assert reading.segment is not None
    assert reading.segment.values == {"user_count": 50}


@pytest.mark.parametrize(
    ("group", "key", "field", "code"),
    [
        ("user_profile", "u", "user", "user_expired"),
        ("session_profile", "s", "session", "session_expired"),
        ("segment_profile", "likes:shoes", "segment", "segment_expired"),
    ],
)
def test_a_row_over_its_time_to_live_is_absent(
    source: FakeSource, group: str, key: str, field: str, code: str
) -> None:
    age = all_groups()[group].ttl + timedelta(seconds=1)
    source.put(group, key, age, segment="likes:shoes")
    reading = read(reader_of(source))
    assert getattr(reading, field) is None
    assert code in reading.codes
    assert reading.ages[group] == age.total_seconds(), "and its age is reported"


def test_the_session_time_to_live_of_the_settings_holds_when_shorter(source: FakeSource) -> None:
    source.put("session_profile", "s", timedelta(minutes=3))
    reading = read(reader_of(source, replace(LIMITS, session_ttl=timedelta(minutes=2))))
    assert reading.session is None
    assert reading.codes == ["session_expired"]


def test_a_row_over_its_freshness_is_used_and_named(source: FakeSource) -> None:
    source.put("user_profile", "u", timedelta(hours=27), segment="likes:shoes")
    reading = read(reader_of(source))
    assert reading.user is not None
    assert reading.codes == ["user_stale"]


def test_a_visitor_who_pauses_does_not_make_the_session_stale(source: FakeSource) -> None:
    source.put("session_profile", "s", timedelta(minutes=20))
    reading = read(reader_of(source))
    assert reading.session is not None
    assert reading.codes == []


def test_a_stale_stream_turns_the_session_off(source: FakeSource) -> None:
    reading = read(reader_of(source, stale=True))
    assert reading.session is None
    assert reading.user is not None
    assert reading.codes == ["stream_stale"]
    assert all(group != "session_profile" for trip in source.trips for group, _ in trip)


@pytest.mark.parametrize(("failure", "code"), [(None, "store_late"), (StoreError("gone"), "store_failing")])
def test_copies_serve_when_the_store_does_not(
    source: FakeSource, failure: Exception | None, code: str
) -> None:
    reader = reader_of(source)
    read(reader)
    source.hangs, source.failure = failure is None, failure
    reading = read(reader)
    assert reading.user is not None
    assert reading.session is not None
    assert reading.segment is not None
    assert reading.user.cached
    assert reading.session.cached
    assert reading.codes == [code, "user_cached", "session_cached", "segment_cached"]


def test_without_copies_a_failing_store_leaves_the_prior_that_was_warmed(source: FakeSource) -> None:
    reader = reader_of(source)
    asyncio.run(reader.warm())
    source.failure = StoreError("gone")
    reading = read(reader, user="other", session="other")
    assert (reading.user, reading.session) == (None, None)
    assert reading.segment is not None
    assert reading.codes == ["store_failing", "segment_cached"]


def test_a_session_copy_over_its_limit_is_not_used(source: FakeSource) -> None:
    reader = reader_of(source, replace(LIMITS, session_copy=timedelta(0)))
    read(reader)
    source.failure = StoreError("gone")
    reading = read(reader)
    assert reading.session is None
    assert reading.user is not None


def test_what_the_store_no_longer_has_is_forgotten(source: FakeSource) -> None:
    reader = reader_of(source)
    read(reader)
    del source.rows["session_profile", "s"]
    read(reader)
    source.failure = StoreError("gone")
    assert read(reader).session is None


def test_the_remaining_budget_bounds_the_store(source: FakeSource) -> None:
    source.hangs = True
    reading = read(reader_of(source, replace(LIMITS, store=timedelta(seconds=30))), s=0.02)
    assert reading.codes[0] == "store_late"


def test_warming_survives_a_store_that_is_gone(source: FakeSource) -> None:
    source.failure = StoreError("gone")
    reader = reader_of(source)
    asyncio.run(reader.warm())
    assert source.trips == [[("segment_profile", "all")]]
    source.failure = None
    assert read(reader).codes == [], "one failure does not open the breaker"


def test_something_else_is_done_while_the_store_answers(source: FakeSource) -> None:
    reader, seen = reader_of(source), []

    def meanwhile() -> None:
        seen.append(len(source.trips))

    asyncio.run(reader.read("u", "s", NOW, 1.0, meanwhile=meanwhile))
    assert len(source.trips) == 2
    assert seen == [1], "once, after the first request to the store"
    source.failure = StoreError("gone")
    asyncio.run(reader.read("u", "s", NOW, 1.0, meanwhile=meanwhile))
    assert seen == [1, 3], "whether or not the store answers"


def test_where_that_fails_the_store_is_not_blamed(source: FakeSource) -> None:
    breaker = Breaker("store", BreakerRules(volume=1))
    reader = FeatureReader(source, ranked_groups(), LIMITS, breaker=breaker)

    def broken() -> None:
        raise ValueError("no such item")

    with pytest.raises(ValueError, match="no such item"):
        asyncio.run(reader.read("u", "s", NOW, 1.0, meanwhile=broken))
    assert (len(source.trips), breaker.state) == (1, State.CLOSED)
    assert read(reader).codes == []


def test_an_event_time_ahead_of_the_clock_is_age_zero(source: FakeSource) -> None:
    source.put("session_profile", "s", timedelta(seconds=-5))
    assert read(reader_of(source)).ages["session_profile"] == 0.0


def test_an_open_breaker_does_not_ask_the_store(source: FakeSource) -> None:
    breaker = Breaker("store", BreakerRules(volume=2, open_s=60.0))
    reader = FeatureReader(source, ranked_groups(), LIMITS, breaker=breaker)
    read(reader)
    source.failure = StoreError("gone")
    read(reader)
    assert breaker.state is State.OPEN
    source.trips.clear()
    reading = read(reader)
    assert source.trips == []
    assert reading.codes == ["store_open", "user_cached", "session_cached", "segment_cached"]


def test_a_caller_that_goes_away_says_nothing_about_the_store(source: FakeSource) -> None:
    breaker = Breaker("store", BreakerRules(volume=1))
    reader = FeatureReader(source, ranked_groups(), LIMITS, breaker=breaker)
    source.hangs = True

    async def give_up() -> None:
        waiting = asyncio.ensure_future(reader.read("u", "s", NOW, 10.0))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(give_up())
    assert breaker.state is State.CLOSED


def test_the_last_day_is_read_where_it_is_asked_for(source: FakeSource) -> None:
    reader = reader_of(source)
    source.put("user_recent", "u", timedelta(hours=2), purchase_count=1)
    assert read(reader).recent is None
    reading = asyncio.run(reader.read("u", None, NOW, 1.0, recent=True))
    assert reading.recent is not None
    assert (reading.recent.values, reading.ages["user_recent"]) == ({"purchase_count": 1}, 7200.0)
    source.put("user_recent", "u", timedelta(hours=25), purchase_count=1)
    reading = asyncio.run(reader.read("u", None, NOW, 1.0, recent=True))
    assert (reading.recent, reading.codes) == (None, ["recent_expired"])
    assert reading.ages["user_recent"] == 90000.0


def test_a_copy_of_the_last_day_is_called_one(source: FakeSource) -> None:
    reader = reader_of(source)
    source.put("user_recent", "u", timedelta(hours=2), purchase_count=1)
    asyncio.run(reader.read("u", None, NOW, 1.0, recent=True))
    source.failure = StoreError("gone")
    reading = asyncio.run(reader.read("u", None, NOW, 1.0, recent=True))
    assert reading.recent is not None
    assert reading.codes == ["store_failing", "user_cached", "recent_cached", "segment_cached"]
