"""What another producer wrote into the log stops nobody: it is put aside, and the rest is exact.

Over segment files, a real Redis and a real Kafka; stream, lake writer and the replay of the quarantine.
"""

from __future__ import annotations

import random
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
import redis
from pydantic import SecretStr

from feature_repo.contract.validation import Event, User, encode
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from quality.quarantine.store import Entry, Quarantine
from streaming.ingest.files import lake_writer
from streaming.ingest.lake_writer import SyncCounts
from streaming.ingest.quarantine_retry import retry
from streaming.log import open_log
from tests.support.poison import GOOD_IN_ITS_WAY, mutants, poison, written_otherwise
from tests.support.stream_process import heartbeats
from tests.support.stream_support import (
    EVENT_LOGS,
    event,
    expected,
    publish,
    session_values,
    stream_to_end,
    user_values,
)

SESSIONS = [f"good-{n}" for n in range(9)]
EVENTS = [event(n, n * 7 % 400, SESSIONS[n % 9], item_id=f"i{n % 5}") for n in range(300)]
VICTIM = event("mutant", 100, "mutant-session", item_id="mutant-item")
MUTANTS = 400


@pytest.fixture(params=EVENT_LOGS)
def log_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "kafka":
        kafka: Settings = request.getfixturevalue("kafka_settings")
        return kafka
    changed: dict[str, object] = {"event_log": request.param, "log_partitions": 2}
    if request.param == "redis":
        changed["redis_url"] = SecretStr(request.getfixturevalue("own_redis").url)
    return settings.model_copy(update=changed)


def mixed() -> tuple[list[tuple[str, bytes]], list[bytes]]:
    """Good events, certain poison and mutants in one order; and the poison by itself."""
    bad = list(dict.fromkeys(poison(VICTIM)))
    keyed = [(VICTIM.session_id, raw) for raw in (*bad, *mutants(VICTIM, MUTANTS, seed=7))]
    good = [
        (e.session_id, written_otherwise(e, GOOD_IN_ITS_WAY[n % 6]) if n % 4 == 0 else encode(e))
        for n, e in enumerate(EVENTS)
    ]
    rng = random.Random(3)
    for entry in keyed:
        good.insert(rng.randrange(len(good)), entry)
    return good, bad


def publish_raw(settings: Settings, keyed: list[tuple[str, bytes]]) -> None:
    log = open_log(settings, Home(settings.home).ensure())
    log.publish(keyed)
    log.close()


def kept(settings: Settings) -> list[Entry]:
    return list(Quarantine(Home(settings.home).quarantine, settings.clock).entries())


def sync(settings: Settings) -> SyncCounts:
    home = Home(settings.home)
    log = open_log(settings, home)
    try:
        return lake_writer(settings, home, log).sync()
    finally:
        log.close()


def test_the_rest_is_exact(log_settings: Settings, home: Home) -> None:
    keyed, bad = mixed()
    publish_raw(log_settings, keyed)

    stream_to_end(log_settings)

    assert session_values(log_settings, SESSIONS) == expected(EVENTS, log_settings).sessions
    counts = [h.counts for h in heartbeats(log_settings)]
    read, aside = sum(c.read for c in counts), sum(c.quarantined for c in counts)
    accepted = sum(c.folded + c.duplicate + c.late for c in counts)
    assert read == len(keyed)
    assert read == accepted + aside
    entries = kept(log_settings)
    assert len(entries) == aside
    assert {e.raw for e in entries} >= set(bad), "bytes are kept as they came"
    assert accepted >= len(EVENTS)
    assert all(
        "log record: " in e.message or e.code in {"time_out_of_range", "id_too_long", "missing_field"}
        for e in entries
    )

    # The lake takes what the stream took, and knows what was put aside already.
    written = sync(log_settings)
    assert written.quarantined == aside
    assert written.events + written.duplicates == accepted
    rows = [r for name in Lake(home.lake).files("event") for r in pq.read_table(name).to_pylist()]
    good = {r["event_id"]: r for r in rows if r["session_id"] in SESSIONS}
    assert {k: r["event_time"] for k, r in good.items()} == {e.event_id: e.event_time for e in EVENTS}
    assert [e.id for e in kept(log_settings)] == [e.id for e in entries]

    # Started again, and with more to read, they go on.
    more = [event(f"more{n}", 500 + n, SESSIONS[n % 9]) for n in range(20)]
    publish(log_settings, more)
    stream_to_end(log_settings)
    assert session_values(log_settings, SESSIONS) == expected([*EVENTS, *more], log_settings).sessions
    assert sync(log_settings).events == 20
    assert len(kept(log_settings)) == aside


def test_where_a_record_was_is_kept_with_it(log_settings: Settings, home: Home) -> None:
    """By its position the record is found in the log again."""
    publish_raw(log_settings, [("k", encode(event(n, n, "k"))) for n in range(5)])
    publish_raw(log_settings, [("k", b"poison"), ("k", encode(event(9, 9, "k")))])
    stream_to_end(log_settings)
    (entry,) = kept(log_settings)
    log = open_log(log_settings, home)
    found = []
    for partition in range(log.partitions):
        batch = log.read(partition, log.start(partition), 100)
        for raw, place in zip(batch.records, batch.places, strict=True):
            name = f"event log, partition {partition}"
            at = (f"{name}, entry {place.decode()}", None) if isinstance(place, bytes) else (name, place)
            if at == (entry.source, entry.line):
                found.append(raw)
    log.close()
    assert found == [b"poison"]


def test_replaying_them_harms_nothing(settings: Settings, home: Home) -> None:
    keyed, _ = mixed()
    publish_raw(settings, keyed)
    stream_to_end(settings)
    total = len(kept(settings))
    counts = retry(settings)
    assert counts.total == total
    assert counts.failed + counts.skipped + counts.replayed == counts.total
    stream_to_end(settings)
    assert session_values(settings, SESSIONS) == expected(EVENTS, settings).sessions


@pytest.mark.redis
def test_entries_of_a_redis_stream_that_hold_no_record(settings: Settings, own_redis: redis.Redis) -> None:
    """Other field names, several fields, binary names; one holds a record under another name."""
    on_redis = settings.model_copy(
        update={"event_log": "redis", "log_partitions": 1, "redis_url": SecretStr(own_redis.url)}
    )
    publish(on_redis, EVENTS[:100])
    client = redis.Redis.from_url(own_redis.url)
    stream = "headrace:log:events:0"
    client.xadd(stream, {"event": encode(event("other", 1))})
    client.xadd(stream, {"event_id": "e", "session_id": "s", b"\xff": b"\xfe"})
    client.xadd(stream, {"r": "", "more": "x"})
    client.close()
    publish(on_redis, EVENTS[100:])
    stream_to_end(on_redis)
    assert session_values(on_redis, SESSIONS) == expected(EVENTS, on_redis).sessions
    entries = kept(on_redis)
    assert sorted(e.code for e in entries) == ["damaged_log", "damaged_log", "not_a_record"]
    assert entries[0].raw == encode(event("other", 1))
    assert "a record is the value of one field 'r'" in entries[0].message
    assert entries[0].source.startswith(f"{stream} ")
    assert sync(on_redis).quarantined == 3
    assert len(kept(on_redis)) == 3


@pytest.mark.kafka
@pytest.mark.xdist_group("kafka")
def test_messages_without_a_value_and_those_of_transactions(kafka_settings: Settings) -> None:
    """Tombstones are put aside; transaction markers, which take an offset each, are passed over at once."""
    from confluent_kafka import Producer

    publish(kafka_settings, EVENTS[:100])
    name, servers = kafka_settings.kafka_topic, {"bootstrap.servers": kafka_settings.kafka_bootstrap}
    plain = Producer(servers)
    plain.produce(name, None, b"key", 0)
    plain.produce(name, b"", None, 1)
    assert plain.flush(20) == 0
    other = Producer({**servers, "transactional.id": f"{name}-t"})
    other.init_transactions(30)
    for commit in (False, True):
        other.begin_transaction()
        for partition in range(kafka_settings.log_partitions):
            other.produce(name, encode(event(f"t{commit}{partition}", 1, "theirs")), None, partition)
        (other.commit_transaction if commit else other.abort_transaction)(30)
    stream_to_end(kafka_settings)
    publish(kafka_settings, EVENTS[100:])
    stream_to_end(kafka_settings)
    assert session_values(kafka_settings, SESSIONS) == expected(EVENTS, kafka_settings).sessions
    assert sorted((e.raw, e.code) for e in kept(kafka_settings)) == [
        (b"", "not_a_record"),
        (b"key", "damaged_log"),
    ]
    counts = sync(kafka_settings)
    assert (counts.events, counts.quarantined) == (len(EVENTS) + kafka_settings.log_partitions, 2)


def test_users_written_in_another_way_are_heard_in_every_partition(settings: Settings) -> None:
    """A denial that another producer wrote ends idle sessions of the user, whichever partition has them."""
    sessions = [f"s{n}" for n in range(12)]
    publish(settings, [event(n, n, name, user_id="u") for n, name in enumerate(sessions)])
    stream_to_end(settings)
    assert None not in session_values(settings, sessions).values()
    publish_raw(settings, [("u", b'{ "consent": false, "user_id": "u", "record": "user" }')])
    stream_to_end(settings)
    assert set(session_values(settings, sessions).values()) == {None}
    assert user_values(settings, ["u"]) == {"u": None}


def test_a_denied_search_without_its_query_is_valid(settings: Settings, home: Home) -> None:
    """The door leaves the query out; one that another producer left in is left out where it is read."""
    denied = event("d", 1, "denied", event_type="search", query="", consent=False)
    theirs = event("t", 2, "denied", event_type="search", query="secret", consent=False)
    publish(settings, [denied, theirs, event("c", 3, "denied", query="secret", consent=False)])
    stream_to_end(settings)
    assert kept(settings) == []
    assert sync(settings).events == 3
    rows = [r for name in Lake(home.lake).files("event") for r in pq.read_table(name).to_pylist()]
    assert {r["event_id"]: r["query"] for r in rows} == {"ed": "", "et": "", "ec": None}


def test_an_event_of_the_future_is_put_aside_in_stream_and_lake(settings: Settings, home: Home) -> None:
    """The bound of the door: in the lake it would be the newest day, behind which days are removed."""
    now = settings.clock()
    publish(settings, [event(1, 0)])
    far = Event(
        event_id="far",
        event_type="click",
        event_time=now + timedelta(days=400),
        session_id="s1",
        item_id="i1",
    )
    publish(settings, [far, User(user_id="u")])
    stream_to_end(settings)
    assert [(e.code, e.raw) for e in kept(settings)] == [("time_out_of_range", encode(far))]
    assert sync(settings).events == 1
    assert len(Lake(home.lake).days()) == 1
