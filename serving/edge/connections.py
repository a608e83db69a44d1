"""Makes the connections of a server, bounds how many there are, and ends those that are over their time."""

from __future__ import annotations

import asyncio
from time import monotonic, perf_counter
from typing import Any

from prometheus_client import Gauge
from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.edge.connection import Connection
from serving.edge.limits import Limits

OPEN = Gauge("headrace_connections", "Open HTTP connections.", multiprocess_mode="livesum")


class Edge:
    """Makes the connections of one server and keeps them within its limits.

    uvicorn calls it as it would a protocol class. It can be pickled, since worker processes are spawned.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}
        self._sweeping = False
        self._reading = False
        self._ran: float | None = None

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """A connection that was accepted."""
        return Connection(self, config, server_state, app_state, _loop)

    def opened(self, connection: Connection) -> None:
        """Take a connection in; beyond the limit the one that has waited longest for its client goes."""
        OPEN.inc()
        self._open.add(connection)
        self._waiting[connection] = None
        if len(self._open) > self.limits.connections:
            longest = next(iter(self._waiting))
            if longest is connection:  # all others are being answered
                connection.turn_away()
            else:
                longest.drop("crowded")
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(self.limits.sweep_s, self._sweep, connection.loop)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection in self._open:
            OPEN.dec()
            self._open.discard(connection)
        self._waiting.pop(connection, None)

    def begun(self, connection: Connection) -> None:
        """A request is complete: the connection now waits for us."""
        self._waiting.pop(connection, None)

    def rested(self, connection: Connection) -> None:
        """A request was answered or refused: the connection now waits for its client."""
        self._waiting[connection] = None

    def received(self, loop: asyncio.AbstractEventLoop) -> float:
        """`perf_counter` time at which the bytes just read came in.

        While the loop runs what was read before, bytes wait in the socket, and nobody is told since when: on
        average since the middle of that run.
        """
        now = perf_counter()
        if not self._reading:
            self._reading = True
            loop.call_soon(self._run, loop)
        return now if self._ran is None else (self._ran + now) / 2

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop begins to run what was read; it looks at its sockets again before it calls `_rest`."""
        self._reading = False
        self._ran = perf_counter()
        loop.call_soon(self._rest)

    def _rest(self) -> None:
        """Nothing more came meanwhile: the loop will wait, and what it reads then has just come in."""
        if not self._reading:
            self._ran = None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        for connection in [c for c in self._open if c.due < now]:
            connection.expire()
        self._sweeping = bool(self._open)
        if self._sweeping:
            loop.call_later(self.limits.sweep_s, self._sweep, loop)
