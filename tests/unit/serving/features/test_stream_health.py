"""Heartbeats: stale above the limit, and fresh again only after catching up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from feature_repo.errors import StoreError
from serving.features.stream_health import StreamHealth
from streaming.sessions.heartbeat import Heartbeat

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


class Stream:
    """Heartbeats that the test sets, and a clock."""

    def __init__(self) -> None:
        self.now = NOW
        self.heartbeats: list[Heartbeat] = []
        self.failure: StoreError | None = None
        self.health = StreamHealth(self.read, lambda: self.now, 30.0)

    def read(self) -> list[Heartbeat]:
        if self.failure is not None:
            raise self.failure
        return self.heartbeats

    def lag(self, *seconds: float) -> bool:
        self.heartbeats = [
            Heartbeat(partition=n, last_event_time=None, wall_time=self.now, behind_s=s)
            for n, s in enumerate(seconds)
        ]
        self.health.refresh()
        return self.health.stale


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_no_stream_is_not_a_stale_one(stream: Stream) -> None:
    stream.health.refresh()
    assert (stream.health.stale, stream.health.lag_s) == (False, None)


def test_hysteresis(stream: Stream) -> None:
    assert not stream.lag(30.0)
    assert stream.lag(30.5)
    assert stream.lag(20.0), "below the limit, but not caught up"
    assert stream.lag(15.5)
    assert not stream.lag(15.0)
    assert not stream.lag(29.0), "and it takes the whole limit to go stale again"


def test_the_worst_partition_counts(stream: Stream) -> None:
    assert stream.lag(0.0, 31.0)


def test_silence_is_lag(stream: Stream) -> None:
    assert not stream.lag(0.0)
    stream.now += timedelta(seconds=31)
    stream.health.refresh()
    assert stream.health.stale
    assert stream.health.lag_s == 31.0


def test_heartbeats_age_on_while_the_store_is_gone(stream: Stream, caplog: pytest.LogCaptureFixture) -> None:
    assert not stream.lag(0.0)
    stream.failure = StoreError("gone")
    stream.health.refresh()
    assert not stream.health.stale
    stream.now += timedelta(seconds=31)
    stream.health.refresh()
    assert stream.health.stale
    assert "using the last known ones" in caplog.text
