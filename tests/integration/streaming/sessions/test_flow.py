"""The flow over a real log into a real store: results against the oracle, recovery, expiry, identity."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from feature_repo.catalogue import catalogue_of
from feature_repo.contract.validation import Event, Item, Record, User, to_arrow
from feature_repo.groups.user_profile import GROUP as PROFILE
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.online import OnlineRow, open_store
from feature_repo.online.consent_rows import CONSENT, consent_rows
from feature_repo.settings import Settings
from quality.quarantine.store import Quarantine
from streaming.sessions.heartbeat import Heartbeat
from streaming.sessions.state_files import StateFolder
from tests.support.stream_process import heartbeats
from tests.support.stream_support import (
    T0,
    event,
    expected,
    publish,
    publish_raw,
    refused_sessions,
    session_values,
    stream_to_end,
    user_values,
)

KINDS = ["view", "click", "like", "add_to_cart", "purchase", "search"]
ITEMS = [Item(item_id=f"i{n}", categories=(f"c{n % 5}",), price=float(n)) for n in range(30)]


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root, log_partitions=3)


def shuffled_events(seed: int, count: int = 3000, sessions: int = 40) -> list[Event]:
    """Events over four hours that come up to 15 minutes out of order, one in ten twice."""
    rng = random.Random(seed)
    events = []
    for n in range(count):
        kind = rng.choice(KINDS)
        events.append(
            event(
                n,
                rng.uniform(0, 4 * 3600),
                f"s{rng.randrange(sessions)}",
                event_type=kind,
                item_id=f"i{rng.randrange(40)}",
                query=f"q{n % 9}" if kind == "search" else None,
                consent=False if rng.random() < 0.005 else None,
            )
        )
    events.sort(key=lambda e: e.event_time + timedelta(seconds=rng.uniform(0, 900)))
    for again in rng.sample(events, count // 10):
        events.insert(rng.randrange(len(events)), again)
    return events


def totals(heartbeats: list[Heartbeat]) -> dict[str, int]:
    return {
        name: sum(getattr(h.counts, name) for h in heartbeats)
        for name in ("read", "folded", "duplicate", "late", "quarantined")
    }


def test_every_session_equals_the_oracle(settings: Settings) -> None:
    events = shuffled_events(1)
    publish(settings, ITEMS)
    stream_to_end(settings)
    publish(settings, events)

    stream_to_end(settings)

    oracle = expected(events, settings, catalogue_of(ITEMS))
    keys = sorted({e.session_id for e in events})
    assert session_values(settings, keys) == {key: oracle.sessions.get(key) for key in keys}
    counted = totals(heartbeats(settings))
    assert (counted["read"], counted["quarantined"]) == (len(events), 0)
    assert counted["folded"] == oracle.outcomes["folded"]
    # A repeat older than the dedup horizon is no longer known by its id, but late.
    assert counted["duplicate"] + counted["late"] == oracle.outcomes["duplicate"] + oracle.outcomes["late"]
    assert 100 < counted["duplicate"] <= oracle.outcomes["duplicate"]
    assert oracle.outcomes["late"] > 50


def test_stopping_anywhere_changes_nothing(settings: Settings) -> None:
    events = shuffled_events(2)
    for start in range(0, len(events), 700):
        publish(settings, events[start : start + 700])
        stream_to_end(settings)

    oracle = expected(events, settings)
    keys = sorted({e.session_id for e in events})
    assert session_values(settings, keys) == {key: oracle.sessions.get(key) for key in keys}


def test_state_ahead_of_the_position_counts_nothing_twice(settings: Settings) -> None:
    """A crash between the shard's snapshot and Bytewax's commit: the log is read again on newer state."""
    events = shuffled_events(3)
    publish(settings, events)
    stream_to_end(settings)
    keys = sorted({e.session_id for e in events})
    before = session_values(settings, keys)
    shutil.rmtree(Home(settings.home).stream / "recovery")

    stream_to_end(settings)

    assert session_values(settings, keys) == before
    assert totals(heartbeats(settings))["read"] == len(events)
    assert totals(heartbeats(settings))["folded"] == 0


def test_an_emptied_store_is_written_again_from_state(settings: Settings, home: Home) -> None:
    events = shuffled_events(4, 300)
    publish(settings, events)
    stream_to_end(settings)
    keys = sorted({e.session_id for e in events})
    before = session_values(settings, keys)
    shutil.rmtree(home.feast)

    stream_to_end(settings)

    assert session_values(settings, keys) == before


def test_items_of_the_lake_enrich_sessions(settings: Settings, home: Home) -> None:
    import pyarrow.parquet as pq

    folder = Lake(home.lake).folder("item")
    folder.mkdir(parents=True)
    pq.write_table(to_arrow("item", ITEMS, T0), folder / "one.parquet")
    publish(settings, [event(1, 0, item_id="i7")])
    stream_to_end(settings)
    row = session_values(settings, ["s1"])["s1"]
    assert row is not None
    assert row["categories"] == ["c2"]
    assert row["mean_price"] == 7.0


def test_items_heard_of_are_known_after_a_restart(settings: Settings) -> None:
    publish(settings, ITEMS)
    stream_to_end(settings)
    publish(settings, [event(1, 0, item_id="i7")])
    stream_to_end(settings)
    row = session_values(settings, ["s1"])["s1"]
    assert row is not None
    assert row["attr_keys"] == ["category:c2"]


def test_what_cannot_be_read_or_folded_is_put_aside(settings: Settings, home: Home) -> None:
    publish(settings, [event(1, 0)])
    publish_raw(settings, "s1", b'{"record": "event", "event_id": 5}')
    publish_raw(settings, "s1", b"not json")
    publish(settings, [event(2, 1)])
    stream_to_end(settings)
    row = session_values(settings, ["s1"])["s1"]
    assert row is not None
    assert row["event_count"] == 2
    entries = list(Quarantine(home.quarantine, lambda: T0).entries())
    assert {e.raw for e in entries} == {b'{"record": "event", "event_id": 5}', b"not json"}
    assert {e.code for e in entries} == {"not_a_record"}
    assert totals(heartbeats(settings))["quarantined"] == 2


def test_denied_consent_erases_the_session_and_the_user(settings: Settings) -> None:
    publish(settings, [event(1, 0, user_id="u"), event(2, 1, user_id="u")])
    stream_to_end(settings)
    assert session_values(settings, ["s1"])["s1"] is not None
    assert user_values(settings, ["u"])["u"] is not None

    publish(settings, [event(3, 2, consent=False, user_id="u"), event(4, 3, user_id="u")])
    stream_to_end(settings)
    assert session_values(settings, ["s1"])["s1"] is None
    assert refused_sessions(settings, ["s1"]) == ["s1"]
    assert user_values(settings, ["u"])["u"] is None

    publish(settings, [event(5, 4, consent=True, user_id="u")])
    stream_to_end(settings)
    row = session_values(settings, ["s1"])["s1"]
    assert row is not None
    assert row["event_count"] == 1


def test_a_user_record_that_denies_ends_personalization(settings: Settings) -> None:
    publish(settings, [event(1, 0, user_id="u"), event(2, 1, "s2", user_id="v")])
    stream_to_end(settings)
    store = open_store(settings, Home(settings.home))
    store.write(PROFILE, [OnlineRow(user, {"segment": "all"}, T0) for user in "uv"])
    publish(settings, [User(user_id="u", consent=False)])
    stream_to_end(settings)
    assert user_values(settings, ["u", "v"])["u"] is None
    idle = session_values(settings, ["s1", "s2"])
    assert (idle["s1"], idle["s2"] is None) == (None, False)
    long_term = store.read([(PROFILE, "u"), (PROFILE, "v")])
    store.close()
    assert long_term[0] is None
    assert long_term[1] is not None
    publish(settings, [event(3, 2, user_id="u"), event(4, 3, "s2", user_id="v")])
    stream_to_end(settings)
    assert session_values(settings, ["s1", "s2"])["s1"] is None
    assert session_values(settings, ["s2"])["s2"] is not None


def test_what_a_user_record_states_of_consent_stands_beside_the_features(settings: Settings) -> None:
    def stated() -> list[Any]:
        store = open_store(settings, Home(settings.home))
        rows = store.read([(CONSENT, user) for user in ("u", "v", "silent", "nobody")])
        store.close()
        return [row and row.values["permitted"] for row in rows]

    publish(
        settings, [User(user_id="u", consent=False), User(user_id="v", consent=True), User(user_id="silent")]
    )
    stream_to_end(settings)
    assert stated() == [False, True, None, None]
    publish(settings, [User(user_id="u", consent=True), User(user_id="v", consent=True)])
    publish(settings, [User(user_id="v", consent=False)])
    stream_to_end(settings)
    assert stated() == [True, False, None, None]


def test_consent_is_withdrawn_although_the_clock_went_back(settings: Settings) -> None:
    store = open_store(settings, Home(settings.home))
    store.write(CONSENT, consent_rows({"u": True}, datetime.now(UTC) + timedelta(days=1)))
    publish(settings, [User(user_id="u", consent=False)])
    stream_to_end(settings)
    [row] = store.read([(CONSENT, "u")])
    store.close()
    assert row is not None
    assert row.values == {"permitted": False}


def test_without_a_statement_the_default_of_the_settings_holds(home: Home) -> None:
    strict = Settings(home=home.root, log_partitions=3, consent_default=False)
    publish(strict, [User(user_id="yes", consent=True)])
    stream_to_end(strict)
    records: list[Record] = [
        event(1, 0, "silent"),
        event(2, 0, "agreed", consent=True),
        event(3, 0, "known", user_id="yes"),
    ]
    publish(strict, records)
    stream_to_end(strict)
    rows = session_values(strict, ["silent", "agreed", "known"])
    assert rows["silent"] is None
    assert rows["agreed"] is not None


def test_a_login_takes_the_anonymous_events_along(settings: Settings) -> None:
    publish(
        settings,
        [
            event(1, 0, item_id="before"),
            event(2, 10, item_id="login", user_id="anna"),
            event(3, 20, item_id="after"),
        ],
    )
    stream_to_end(settings)
    session, user = session_values(settings, ["s1"])["s1"], user_values(settings, ["anna"])["anna"]
    assert session is not None
    assert user is not None
    assert session["user_id"] == "anna"
    assert session["item_ids"] == user["item_ids"] == ["after", "login", "before"]


def test_a_shared_device_does_not_mix_users(settings: Settings) -> None:
    publish(
        settings,
        [
            event(1, 0, item_id="a1", user_id="anna"),
            event(2, 10, item_id="a2"),
            event(3, 20, item_id="b1", user_id="ben"),
            event(4, 30, item_id="b2"),
        ],
    )
    stream_to_end(settings)
    session = session_values(settings, ["s1"])["s1"]
    users = user_values(settings, ["anna", "ben"])
    assert session is not None
    assert (session["user_id"], session["item_ids"]) == ("ben", ["b2", "b1"])
    assert users["anna"] is not None
    assert users["anna"]["item_ids"] == ["a2", "a1"]
    assert users["ben"] is not None
    assert users["ben"]["item_ids"] == ["b2", "b1"]


def test_a_user_is_one_across_devices_and_sessions(settings: Settings) -> None:
    publish(
        settings,
        [
            event(1, 0, "phone", item_id="p", user_id="anna"),
            event(2, 100, "laptop", item_id="l", user_id="anna"),
            event(3, 7200, "phone", item_id="p2", user_id="anna"),
        ],
    )
    stream_to_end(settings)
    user = user_values(settings, ["anna"])["anna"]
    assert user is not None
    assert user["session_count"] == 3
    assert user["item_ids"] == ["p2", "l", "p"]
    assert user["event_count"] == 3


def test_a_week_of_traffic_does_not_grow_the_state(home: Home) -> None:
    week = Settings(home=home.root, log_partitions=2, session_ttl_s=3600.0)
    sizes, number = [], 0
    for hour in range(0, 7 * 24, 12):
        events = []
        for n in range(60):
            number += 1
            events.append(event(number, hour * 3600 + n, f"s{number}", user_id=f"u{number}"))
        publish(week, events)
        stream_to_end(week)
        sizes.append(sum(h.sessions for h in heartbeats(week)))
    assert max(sizes) <= 2 * 60
    held: dict[str, Any] = {}
    for file in sorted((home.stream / "state").glob("*-*")):
        state = StateFolder(file)
        held |= state.load()
        state.close()
    assert len(held) <= 4 * 60
    everyone = [f"s{n}" for n in range(1, number + 1)]
    assert sum(row is not None for row in session_values(week, everyone).values()) <= 2 * 60
