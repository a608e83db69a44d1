"""What the stream survives: kill -9, a store that stops, pauses or is emptied, another number of workers."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from feature_repo.contract.validation import Contract, Event, User
from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.sources import InputFile, open_source
from tests.conftest import RedisServer
from tests.services.kafka.broker import KafkaBroker
from tests.support.stream_process import forked, heartbeats, streaming, until
from tests.support.stream_support import (
    as_stored,
    event,
    expected,
    on_redis,
    publish,
    session_values,
    stream_to_end,
    traffic,
    user_values,
)

FAULT_S = 20.0


def counts_of(settings: Settings, sessions: Sequence[str]) -> dict[str, int]:
    rows = session_values(settings, sessions)
    return {key: 0 if row is None else row["event_count"] for key, row in rows.items()}


@pytest.mark.real_data
@pytest.mark.timeout(280)
def test_kill_nine_ten_times_while_replaying_deskdrop(
    home: Home, shared_data: Callable[[str], Path], clock: Callable[[], Any]
) -> None:
    """72,312 real rows, 99 % of them out of order, 2,284 repeats: the final sessions equal the oracle's."""
    path = shared_data("deskdrop/users_interactions.csv.zip")
    settings = Settings(
        home=home.root,
        log_partitions=4,
        session_ttl_s=2 * 365 * 86_400.0,
        snapshot_s=0.3,
        event_weights={"bookmark": 2.0, "comment": 3.0, "follow": 3.0},
        stream_batch_size=200,
    )
    events = deskdrop_events(path, settings, clock)
    assert len(events) == 72_312
    half = len(events) // 2
    publish(settings, events[:half])

    killed = 0
    rng = random.Random(11)
    while killed < 10:
        process = forked(settings)
        try:
            wall = max((h.wall_time for h in heartbeats(settings)), default=None)
            until(
                lambda before=wall: any(before is None or h.wall_time > before for h in heartbeats(settings)),
                "a new heartbeat",
            )
            time.sleep(rng.uniform(0, 0.4))  # the moment is meant to be random
        finally:
            process.kill()
            process.join()
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        if killed == 5:
            publish(settings, events[half:])
    stream_to_end(settings)

    oracle = expected(events, settings)
    keys = sorted({e.session_id for e in events})
    assert session_values(settings, keys) == {key: oracle.sessions.get(key) for key in keys}
    assert oracle.outcomes["folded"] + oracle.outcomes["duplicate"] + oracle.outcomes["late"] == 72_312


def deskdrop_events(path: Path, settings: Settings, clock: Callable[[], Any]) -> list[Event]:
    """Every row of the file, repeats included, in the order of the file."""
    source, contract = open_source("deskdrop", settings.weights), Contract(settings, clock)
    found = []
    for row in source.rows(InputFile(path), None):
        record = contract.parse(source.convert(row.raw, None))
        assert isinstance(record, Event)
        found.append(record)
    return found


def test_consent_is_withdrawn_in_every_worker(home: Home) -> None:
    """A user record lies in one partition, the user's sessions in any."""
    settings = Settings(home=home.root, log_partitions=4)
    sessions = [f"s{n}" for n in range(12)]
    for records in (
        [User(user_id="anna", consent=False)],
        [event(n, n, key, user_id="anna") for n, key in enumerate(sessions)],
    ):
        publish(settings, records)
        with streaming(settings, "--workers", "2", "--to-end") as process:
            assert process.wait(60) == 0
    assert set(session_values(settings, sessions).values()) == {None}
    assert user_values(settings, ["anna"]) == {"anna": None}


@pytest.fixture
def redis_settings(home: Home, own_redis: RedisServer) -> Settings:
    return on_redis(home, own_redis.url)


@pytest.mark.redis
@pytest.mark.parametrize("fault", ["stopped and emptied", "paused"])
def test_the_flow_waits_for_redis_and_loses_nothing(
    redis_settings: Settings, own_redis: RedisServer, fault: str
) -> None:
    events = traffic(3000)
    keys = sorted({e.session_id for e in events})
    with streaming(redis_settings) as process:
        publish(redis_settings, events[:1000])
        before = {e.session_id: 0 for e in events}
        for e in events[:1000]:
            before[e.session_id] += 1
        until(lambda: counts_of(redis_settings, keys) == before, "the first thousand events")
        if fault == "paused":
            own_redis.signal(signal.SIGSTOP)
        else:
            own_redis.stop()
        publish(redis_settings, events[1000:2000])
        time.sleep(FAULT_S)
        assert process.poll() is None
        if fault == "paused":
            own_redis.signal(signal.SIGCONT)
        else:
            own_redis.start()
        publish(redis_settings, events[2000:])
        oracle = expected(events, redis_settings).sessions
        until(lambda: session_values(redis_settings, keys) == oracle, "every session as the oracle has it")
    assert sum(row["event_count"] for row in oracle.values()) == len(events)


@pytest.mark.redis
def test_redis_emptied_under_the_flow_is_written_again(
    redis_settings: Settings, own_redis: RedisServer
) -> None:
    import redis

    events = [event(n, n, f"s{n % 20}", user_id=f"u{n % 5}") for n in range(400)]
    keys, users = [f"s{n}" for n in range(20)], [f"u{n}" for n in range(5)]
    publish(redis_settings, events)
    with streaming(redis_settings):
        oracle = expected(events, redis_settings).sessions
        until(lambda: session_values(redis_settings, keys) == oracle, "all sessions")
        until(lambda: None not in user_values(redis_settings, users).values(), "all users")
        before = user_values(redis_settings, users)
        redis.Redis.from_url(own_redis.url).flushall()
        until(lambda: session_values(redis_settings, keys) == oracle, "all sessions again")
        until(lambda: user_values(redis_settings, users) == before, "all users again")


def test_a_click_shows_within_a_second(home: Home) -> None:
    settings = Settings(home=home.root)
    with streaming(settings):
        until(lambda: len(heartbeats(settings)) == settings.log_partitions, "heartbeats")
        started = time.monotonic()
        publish(settings, [event(1, 0)])
        row = until(lambda: session_values(settings, ["s1"])["s1"], "the session")
        assert time.monotonic() - started < 1.0
    assert row["item_ids"] == ["i1"]
    assert as_stored(row) == row


@pytest.mark.kafka
@pytest.mark.xdist_group("kafka")
def test_kafka_restarted_under_the_flow(kafka_broker: KafkaBroker, kafka_settings: Settings) -> None:
    events = traffic(900)
    keys = sorted({e.session_id for e in events})
    with streaming(kafka_settings) as process:
        publish(kafka_settings, events[:300])
        first = expected(events[:300], kafka_settings).sessions
        until(lambda: session_values(kafka_settings, list(first)) == first, "the first three hundred")
        kafka_broker.stop()
        kafka_broker.start()
        publish(kafka_settings, events[200:])  # a hundred come twice
        oracle = expected(events, kafka_settings).sessions
        until(lambda: session_values(kafka_settings, keys) == oracle, "every session as the oracle has it")
        assert process.poll() is None
    assert sum(row["event_count"] for row in oracle.values()) == len(events)
