"""The connections of a server, with limits on number, size and time that need no proxy in front.

uvicorn parses and answers, but limits neither the size of the headers nor the time a client may take.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from time import monotonic
from typing import Any, cast

from prometheus_client import Counter, Gauge
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.api.asgi import ARRIVED
from serving.edge.arrivals import Arrivals
from serving.edge.limits import Limits
from serving.edge.refusals import head_too_large, raw_answer, too_slow
from serving.schemas.errors import ApiError

LINGER_S = 1.0
"""How long to read and drop the input of a refused client, so that it can read the answer."""
ANSWER_S = 60.0
"""How long it may take to answer, including the time the client takes to read."""
_FRAMING = 2
"""A body may take up to this many times its limit on the wire: chunks have frames, extensions and trailers.
Bytes that arrive in the same read as the headers, at most 256 KiB, are not counted."""

CLOSED = Counter(
    "headrace_connections_closed", "HTTP connections closed by the server, by reason.", ["reason"]
)
REASONS = ("answer_timeout", "bad_request", "body_timeout", "crowded", "head_timeout", "idle", "too_large")
for _reason in REASONS:
    CLOSED.labels(_reason)
OPEN = Gauge("headrace_connections", "Open HTTP connections.", multiprocess_mode="livesum")


class Edge:
    """Creates the connections of one server and enforces its limits.

    uvicorn calls it like a protocol class. It must be picklable, because worker processes are spawned.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}
        self._sweeping = False
        self.arrivals = Arrivals()

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """Create the protocol of an accepted connection."""
        return Connection(self, config, server_state, app_state, _loop)

    def opened(self, connection: Connection) -> None:
        """Register a connection. Over the limit, drop the one that has waited longest for its client."""
        OPEN.inc()
        self._open.add(connection)
        self._waiting[connection] = None
        if len(self._open) > self.limits.connections:
            longest = next(iter(self._waiting))
            if longest is connection:  # all others are busy
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
        """Note that a request is complete: the connection now waits for the server."""
        self._waiting.pop(connection, None)

    def rested(self, connection: Connection) -> None:
        """Note that a request was answered or refused: the connection now waits for its client."""
        self._waiting[connection] = None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        for connection in [c for c in self._open if c.due < now]:
            connection.expire()
        self._sweeping = bool(self._open)
        if self._sweeping:
            loop.call_later(self.limits.sweep_s, self._sweep, loop)


class Phase(Enum):
    """What a connection is waiting for."""

    IDLE = "the next request"
    HEAD = "the rest of the headers"
    BODY = "the rest of the body"
    ANSWER = "us"
    CLOSING = "its end"


_EXPIRED = {
    Phase.IDLE: "idle",
    Phase.HEAD: "idle",
    Phase.BODY: "body_timeout",
    Phase.ANSWER: "answer_timeout",
    Phase.CLOSING: None,
}


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    Attributes:
        due: `monotonic` time at which the current phase times out.
    """

    def __init__(
        self,
        edge: Edge,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._edge = edge
        self._limits = edge.limits
        self._phase = Phase.HEAD
        self._chunk = self._head = self._body = 0
        self._received = 0.0
        self._refusal: ApiError | None = None
        self.due = monotonic() + self._limits.head_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection."""
        super().connection_made(transport)
        self._edge.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection."""
        self._edge.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and refuse the request if it exceeds a limit."""
        phase, self._chunk = self._phase, len(data)
        self._received = self._edge.arrivals.of(self.loop)
        if phase is Phase.CLOSING:
            return
        if phase is Phase.HEAD:
            self._head += self._chunk
        elif phase is Phase.IDLE:
            self._head = self._chunk
            self._turn(Phase.HEAD, self._limits.head_s)
        else:
            self._body += self._chunk
        super().data_received(data)
        if self._phase is Phase.HEAD and self._head > self._limits.head_bytes:
            self.refuse(head_too_large(self._limits.head_bytes), "too_large")
        elif self._body > _FRAMING * self._limits.body_bytes + self._limits.head_bytes:
            message = "body: chunk frames, extensions or trailers are too large"
            self.refuse(ApiError(413, "body_too_large", "", message), "too_large")

    def on_message_begin(self) -> None:
        """Start counting a request; all bytes of the current chunk count as its head."""
        self._head, self._body = self._chunk, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Refuse a URL that is too long."""
        super().on_url(url)
        most = self._limits.url_bytes
        if len(self.url) > most:
            message = f"URL: over {most} bytes (HEADRACE_MAX_URL_BYTES); send long values in the body"
            self._stop(ApiError(414, "url_too_long", "", message))

    def on_headers_complete(self) -> None:
        """Check the size of the headers and start the timeout of the body."""
        most = self._limits.head_bytes
        if self._head > most and _size(self.url, self.headers) > most:
            self._stop(head_too_large(most))
        self._turn(Phase.BODY, self._limits.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note the arrival time. The request's time budget starts here, so slow uploads do not use it up."""
        cast("dict[str, Any]", self.cycle.scope)[ARRIVED] = self._received
        if self.cycle.response_complete:
            self._turn(Phase.IDLE, self._limits.idle_s)
        else:
            self._edge.begun(self)
            self._turn(Phase.ANSWER, ANSWER_S)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start waiting for the next request. The rest of an unread body is dropped for a while."""
        if self._phase is Phase.ANSWER and self.pipeline:
            self._turn(Phase.ANSWER, ANSWER_S)
        elif self._phase is Phase.ANSWER:
            self._edge.rested(self)
            self._turn(Phase.IDLE, self._limits.idle_s)
        elif self._phase is Phase.BODY and self.cycle.response_complete:
            self.due = min(self.due, monotonic() + LINGER_S)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed request, or one that exceeded a limit while it was parsed."""
        if self._refusal is not None:
            self.refuse(self._refusal, "too_large")
        else:
            self.refuse(ApiError(400, "bad_request", "", msg), "bad_request")

    def timeout_keep_alive_handler(self) -> None:
        """Disable uvicorn's idle timer. `expire` also covers clients that do not read their answer."""

    def turn_away(self) -> None:
        """Refuse a connection because all others are busy."""
        CLOSED.labels("crowded").inc()
        self._phase = Phase.CLOSING
        error = ApiError(503, "busy", "", "too many requests at once", retry_after_s=1)
        self.transport.write(raw_answer(error))
        self.transport.close()

    def refuse(self, error: ApiError, reason: str) -> None:
        """Answer with an error and close soon; drop whatever the client still sends."""
        CLOSED.labels(reason).inc()
        cycle, phase = self.cycle, self._phase
        self._edge.rested(self)  # its place may be taken
        self._turn(Phase.CLOSING, LINGER_S)
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        # A request gets one answer: once it has started, an error in the rest cannot be reported.
        if cycle is not None and cycle.response_started and phase in {Phase.BODY, Phase.ANSWER}:
            self.drop(None)
        else:
            self.transport.write(raw_answer(error))

    def expire(self) -> None:
        """Close the connection because its current phase timed out."""
        if self._phase is Phase.HEAD and self._head:
            self.refuse(too_slow("headers", self._limits.head_s), "head_timeout")
        elif self._phase is Phase.BODY and not self.cycle.response_started:
            self.refuse(too_slow("body", self._limits.body_s), "body_timeout")
        else:
            self.drop(_EXPIRED[self._phase])

    def drop(self, reason: str | None) -> None:
        """Close at once."""
        if reason is not None:
            CLOSED.labels(reason).inc()
        self._edge.closed(self)
        self.transport.abort()

    def _turn(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self.due = monotonic() + seconds

    def _stop(self, error: ApiError) -> None:
        """Abort parsing; uvicorn then calls `send_400_response`."""
        self._refusal = error
        raise error


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
