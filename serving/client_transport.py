"""The way of the sync client to the service: a timeout bounds the whole of a request, not each read of it.

httpx hands its timeout to every read of a socket, so that an answer which comes a byte at a time is waited
for as long as it lasts. Here each read, write and connect gets what is left of the request's time. The client
for asyncio needs none of this: its loop cancels the request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import httpcore
import httpx

_CONNECTIONS, _KEPT, _KEPT_S = 100, 20, 5.0
"""As httpx has them."""
_WRITTEN_AT_ONCE = 65_536
"""Bytes: a peer that reads slowly is looked at again after each."""
Left = Callable[[], float]
"""Seconds the running request still has; raises `httpcore.ReadTimeout` where there are none."""


class BoundedTransport(httpx.HTTPTransport):
    """HTTP, straight to the service: proxies of the environment do not count.

    What it does not bound is the look-up of a host's name, and each of several addresses may take the whole
    time to connect.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context)
        self._clock = clock
        self._running = threading.local()  # a request is made, and its answer read, by one thread
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_KEPT,
            keepalive_expiry=_KEPT_S,
            network_backend=BoundedSockets(httpcore.SyncBackend(), self._left),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its read timeout, counted from now, is the time until its answer is read whole."""
        self._running.until = self._clock() + request.extensions["timeout"]["read"]
        return super().handle_request(request)

    def _left(self) -> float:
        left: float = self._running.until - self._clock()
        if left <= 0.0:
            message = "no whole answer in time"
            raise httpcore.ReadTimeout(message)
        return left


class BoundedSockets(httpcore.NetworkBackend):
    """Sockets of another backend that wait no longer than the request has left."""

    def __init__(self, sockets: httpcore.NetworkBackend, left: Left) -> None:
        self._sockets = sockets
        self._left = left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect."""
        stream = self._sockets.connect_tcp(host, port, self._left(), local_address, socket_options)
        return BoundedStream(stream, self._left)


class BoundedStream(httpcore.NetworkStream):
    """A connection whose every wait is bounded by what the request has left."""

    def __init__(self, stream: httpcore.NetworkStream, left: Left) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, once something has."""
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it."""
        for start in range(0, len(buffer), _WRITTEN_AT_ONCE):
            self._stream.write(buffer[start : start + _WRITTEN_AT_ONCE], self._left())

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Go on under TLS."""
        stream = self._stream.start_tls(ssl_context, server_hostname, self._left())
        return BoundedStream(stream, self._left)

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """As the connection beneath."""
        return self._stream.get_extra_info(info)
