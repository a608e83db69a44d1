"""A connection that waits no longer than its request has left, by a clock handed in."""

from __future__ import annotations

import ssl
from typing import Any

import httpcore
import httpx
import pytest

from serving.client_transport import BoundedSockets, BoundedStream, BoundedTransport


class Time:
    """A clock, and what is left until ten."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def left(self) -> float:
        if self.now >= 10.0:
            raise httpcore.ReadTimeout
        return 10.0 - self.now


class Slow(httpcore.NetworkStream):
    """A connection each of whose calls takes four seconds; notes how long each might have waited."""

    def __init__(self, time: Time, waits: list[tuple[str, float | None]]) -> None:
        self._time = time
        self.waits = waits
        self.closed = False

    def _take(self, what: str, timeout: float | None) -> None:
        self.waits.append((what, timeout))
        self._time.now += 4.0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._take("read", timeout)
        return b"x"

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._take(f"write {len(buffer)}", timeout)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._take(f"tls {server_hostname}", timeout)
        return Slow(self._time, self.waits)

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, info: str) -> Any:
        return info


class SlowSockets(httpcore.NetworkBackend):
    def __init__(self, stream: Slow) -> None:
        self.stream = stream

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *_: Any) -> Slow:
        self.stream._take(f"connect {host}:{port}", timeout)
        return self.stream


def test_each_wait_is_what_is_left_and_then_there_is_none() -> None:
    time = Time()
    waits: list[tuple[str, float | None]] = []
    sockets = BoundedSockets(SlowSockets(Slow(time, waits)), time.left)
    stream = sockets.connect_tcp("h", 1, timeout=99.0).start_tls(ssl.create_default_context(), "h", 99.0)
    stream.read(10, 99.0)
    assert waits == [("connect h:1", 10.0), ("tls h", 6.0), ("read", 2.0)]
    with pytest.raises(httpcore.ReadTimeout):
        stream.read(10, 99.0)
    with pytest.raises(httpcore.ReadTimeout):
        stream.write(b"abc", 99.0)


def test_a_long_body_is_written_in_parts_that_share_the_time() -> None:
    time = Time()
    waits: list[tuple[str, float | None]] = []
    stream = BoundedStream(Slow(time, waits), time.left)
    with pytest.raises(httpcore.ReadTimeout):
        stream.write(b"x" * 200_000, 99.0)
    assert waits == [("write 65536", 10.0), ("write 65536", 6.0), ("write 65536", 2.0)]


def test_the_rest_is_the_connection_beneath() -> None:
    time = Time()
    beneath = Slow(time, [])
    stream = BoundedStream(beneath, time.left)
    stream.write(b"")
    assert (stream.get_extra_info("socket"), beneath.waits) == ("socket", [])
    stream.close()
    assert beneath.closed


def test_a_request_whose_time_is_over_waits_for_nothing() -> None:
    ticks = iter([0.0, 5.0])
    late = pytest.raises(httpx.ReadTimeout, match="no whole answer in time")
    with httpx.Client(transport=BoundedTransport(lambda: next(ticks))) as client, late:
        client.get("http://127.0.0.1:9/", timeout=5.0)
