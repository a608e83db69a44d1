"""The flow over each event log: stopped and resumed, its recovery lost, its log emptied under it."""

from __future__ import annotations

import shutil

import pytest
import redis
from pydantic import SecretStr

from feature_repo.home import Home
from feature_repo.settings import Settings
from tests.conftest import RedisServer
from tests.support.stream_support import EVENT_LOGS, event, expected, publish, session_values, stream_to_end

EVENTS = [event(n, n * 7 % 400, f"s{n % 9}", item_id=f"i{n % 5}") for n in range(300)]
SESSIONS = [f"s{n}" for n in range(9)]


@pytest.fixture(params=EVENT_LOGS)
def log_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "kafka":
        kafka: Settings = request.getfixturevalue("kafka_settings")
        return kafka
    changed: dict[str, object] = {"event_log": request.param, "log_partitions": 2}
    if request.param == "redis":
        changed["redis_url"] = SecretStr(request.getfixturevalue("own_redis").url)
    return settings.model_copy(update=changed)


def test_stopped_resumed_and_read_again_every_event_counts_once(log_settings: Settings, home: Home) -> None:
    publish(log_settings, EVENTS[:150])
    stream_to_end(log_settings)
    publish(log_settings, EVENTS[100:])  # fifty come twice
    stream_to_end(log_settings)
    oracle = expected(EVENTS, log_settings).sessions
    assert session_values(log_settings, SESSIONS) == oracle

    shutil.rmtree(home.stream / "recovery")
    stream_to_end(log_settings)
    assert session_values(log_settings, SESSIONS) == oracle

    shutil.rmtree(home.stream)
    shutil.rmtree(home.feast)
    stream_to_end(log_settings)
    assert session_values(log_settings, SESSIONS) == oracle


@pytest.mark.redis
def test_a_redis_that_holds_log_and_store_restarted_empty(settings: Settings, own_redis: RedisServer) -> None:
    """State lives on: sessions are written again, and what is published later is folded into them."""
    both = settings.model_copy(
        update={
            "event_log": "redis",
            "online_store": "redis",
            "redis_url": SecretStr(own_redis.url),
            "log_partitions": 2,
        }
    )
    publish(both, EVENTS[:150])
    stream_to_end(both)
    redis.Redis.from_url(own_redis.url).flushall()
    publish(both, EVENTS[150:])
    stream_to_end(both)
    assert session_values(both, SESSIONS) == expected(EVENTS, both).sessions
