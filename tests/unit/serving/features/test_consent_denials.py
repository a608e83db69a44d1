"""Consent is read with the features: a user who denied it gets no rows, whatever store and cache hold."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import StoreError
from serving.control.reloading import Model
from serving.features.consent_denials import SESSION_ID, USER_ID, Permissions, permitted_by
from serving.features.ranked_groups import ranked_groups
from serving.features.reader import FeatureReader
from serving.features.reading import Reading
from serving.pipeline.context import RankContext, Row
from serving.pipeline.features import FeaturesStage
from serving.pipeline.permission import ConsentStage
from serving.pipeline.runner import Ranker
from serving.schemas.rank_request import Candidate, RankRequest
from serving.schemas.rank_response import Tier
from tests.support.feature_source import LIMITS, NOW, FakeSource

PATIENT = replace(LIMITS, store=timedelta(seconds=30))
GONE = StoreError("gone")


@pytest.fixture
def store() -> FakeSource:
    fake = FakeSource()
    fake.put("user_profile", "u", segment="likes:shoes")
    fake.put("segment_profile", "all", user_count=50)
    fake.put("session_profile", "s", event_count=2)
    return fake


def read(reader: FeatureReader, user: str | None = "u", session: str | None = "s") -> Reading:
    return asyncio.run(reader.read(user, session, NOW, 30.0))


def reader_of(store: FakeSource, permissions: Permissions | None = None) -> FeatureReader:
    return FeatureReader(store, ranked_groups(), PATIENT, permissions=permissions)


def rows_of(reading: Reading) -> list[str]:
    return [n for n in ("user", "segment", "session") if getattr(reading, n) is not None]


def test_a_stale_row_of_a_user_who_denied_is_not_used(store: FakeSource) -> None:
    store.put("user_consent", "u", permitted=False)
    reading = read(reader_of(store))
    assert (rows_of(reading), reading.permitted, reading.ages) == ([], False, {})
    assert len(store.trips) == 1, "in the round trip of the features"


@pytest.mark.parametrize("stated", [True, None])
def test_who_permits_or_states_nothing_has_rows(store: FakeSource, stated: bool | None) -> None:
    store.put("user_consent", "u", permitted=stated)
    reading = read(reader_of(store))
    assert (rows_of(reading), reading.permitted) == (["user", "segment", "session"], stated)


def test_copies_of_a_user_who_denied_do_not_serve_when_the_store_does_not(store: FakeSource) -> None:
    reader = reader_of(store)
    assert rows_of(read(reader)) == ["user", "segment", "session"]
    store.put("user_consent", "u", permitted=False)
    read(reader)
    store.failure = GONE
    reading = read(reader)
    assert (rows_of(reading), reading.permitted, reading.codes) == ([], False, ["store_failing"])
    assert "session" not in rows_of(read(reader, user=None)), "the cached session was dropped too"


def test_a_session_named_alone_is_its_users(store: FakeSource) -> None:
    store.put("session_profile", "s", user_id="u")
    reader = reader_of(store)
    assert rows_of(read(reader, user=None)) == ["segment", "session"]
    store.put("user_consent", "u", permitted=False)
    reading = read(reader, user=None)
    assert (rows_of(reading), reading.permitted) == ([], False)


def test_a_session_of_somebody_else_is_left_out(store: FakeSource) -> None:
    store.put("session_profile", "s", user_id="v")
    reading = read(reader_of(store))
    assert (rows_of(reading), reading.codes) == (["user", "segment"], ["session_of_another"])


def test_a_denial_at_this_door_holds_before_the_store_knows_of_it(store: FakeSource) -> None:
    permissions = Permissions(10)
    reader = reader_of(store, permissions)
    read(reader)
    permissions.hear({"record": "user", "user_id": "u", "consent": False})
    for store.failure in (None, GONE):
        reading = read(reader)
        assert (rows_of(reading), reading.permitted) == ([], False)
    store.failure = None
    store.put("session_profile", "s", user_id="u")
    assert rows_of(read(reader, user=None)) == [], "nor by a session of the user"
    permissions.hear({"record": "user", "user_id": "u", "consent": True})
    assert rows_of(read(reader)) == ["user", "segment", "session"]


def test_a_denial_in_a_session_leaves_the_session_out(store: FakeSource) -> None:
    permissions = Permissions(10)
    reader = reader_of(store, permissions)
    permissions.hear({"record": "event", "session_id": "s", "user_id": "u", "consent": False})
    assert rows_of(read(reader)) == ["user", "segment"]
    permissions.hear({"record": "event", "session_id": "s"})
    assert rows_of(read(reader)) == ["user", "segment"], "an event without consent changes nothing"
    permissions.hear({"record": "event", "session_id": "s", "consent": True})
    assert rows_of(read(reader)) == ["user", "segment", "session"]


def test_what_was_heard_is_bounded_in_number_and_time() -> None:
    permissions = Permissions(2)
    for user in ("a", "b", "c"):
        permissions.hear({"record": "user", "user_id": user, "consent": False})
    assert [permissions.denied(USER_ID, user) for user in "abc"] == [False, True, True]
    permissions = Permissions(2, heard_s=-1.0)
    permissions.hear({"record": "user", "user_id": "a", "consent": False})
    assert not permissions.denied(USER_ID, "a")


@given(
    st.lists(
        st.fixed_dictionaries(
            {"record": st.sampled_from(["user", "event", "item"]), "user_id": st.sampled_from("uv")},
            optional={
                "session_id": st.sampled_from("uv"),
                "item_id": st.just("u"),
                "consent": st.sampled_from([True, False, None]),
            },
        )
    )
)
def test_the_last_statement_counts(records: list[dict[str, Any]]) -> None:
    permissions, users, sessions = Permissions(100), dict[str, bool](), dict[str, bool]()
    for record in records:
        permissions.hear(record)
        if record["record"] == "user":
            users[record["user_id"]] = record.get("consent") is False
        elif record["record"] == "event" and record.get("consent") is not None and "session_id" in record:
            sessions[record["session_id"]] = record["consent"] is False
    for key in "uv":
        assert permissions.denied(USER_ID, key) is users.get(key, False)
        assert permissions.denied(SESSION_ID, key) is sessions.get(key, False)


@pytest.mark.parametrize(
    ("value", "permitted"), [(True, True), (False, False), (None, None), ("yes", False), (1, False)]
)
def test_a_damaged_statement_is_no_permission(value: Any, permitted: bool | None) -> None:
    assert permitted_by(Row({"permitted": value}, NOW)) is permitted
    assert permitted_by(None) is None


@pytest.mark.parametrize("asked", [True, False, None])
@pytest.mark.parametrize("stated", [True, False, None])
@pytest.mark.parametrize("default", [True, False])
def test_who_decides(store: FakeSource, asked: bool | None, stated: bool | None, default: bool) -> None:
    """A denial wins wherever it is stated, then any statement, then the default in the settings."""
    if stated is not None:
        store.put("user_consent", "u", permitted=stated)
    stages = (ConsentStage(), FeaturesStage(reader_of(store), default))
    ranker = Ranker(stages, lambda: Model(None, None), lambda: NOW, timedelta(seconds=30))
    request = RankRequest(candidates=[Candidate("i")], user_id="u", consent=asked)
    context: RankContext = ranker.open(request, 0.0)
    context.deadline = 1e18
    answer = asyncio.run(ranker.rank(context))
    denied = asked is False or stated is False or (asked is None and stated is None and not default)
    assert (answer.degraded == ["consent_denied"]) is denied
    assert (context.user is None) is denied
    assert answer.tier is Tier.BASE, "no blend here"
