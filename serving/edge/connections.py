"""The connections of a server, with limits on number, size and time that hold without a proxy in front.

uvicorn parses and answers; it bounds neither the head of a request nor the time a client may take.
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
"""How long what a refused client still sends is read and dropped, so that it can read the answer."""
ANSWER_S = 60.0
"""How long an answer may take, and the client to read it."""
_FRAMING = 2
"""Bytes read of a body are at most this many times its limit: chunks have frames, extensions and trailers.
What came with the headers is not counted, a buffer of 256 KiB at most."""

CLOSED = Counter(
    "headrace_connections_closed", "HTTP connections closed by the server, by reason.", ["reason"]
)
REASONS = ("answer_timeout", "bad_request", "body_timeout", "crowded", "head_timeout", "idle", "too_large")
for _reason in REASONS:
    CLOSED.labels(_reason)
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
        self.arrivals = Arrivals()

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
        due: `monotonic` time until which it may stay as it is.
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
        """Take the connection in."""
        super().connection_made(transport)
        self._edge.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let it go."""
        self._edge.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is too much."""
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
        """A request begins somewhere in the bytes at hand; they are all counted as its head."""
        self._head, self._body = self._chunk, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        super().on_url(url)
        most = self._limits.url_bytes
        if len(self.url) > most:
            message = f"URL: over {most} bytes (HEADRACE_MAX_URL_BYTES); send what is long in the body"
            self._stop(ApiError(414, "url_too_long", "", message))

    def on_headers_complete(self) -> None:
        """The head is complete; what follows is the body."""
        most = self._limits.head_bytes
        if self._head > most and _size(self.url, self.headers) > most:
            self._stop(head_too_large(most))
        self._turn(Phase.BODY, self._limits.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete: from now on the time is ours. A slow client spends its own."""
        cast("dict[str, Any]", self.cycle.scope)[ARRIVED] = self._received
        if self.cycle.response_complete:
            self._turn(Phase.IDLE, self._limits.idle_s)
        else:
            self._edge.begun(self)
            self._turn(Phase.ANSWER, ANSWER_S)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answered; what is left of a body that nobody reads is dropped for a while."""
        if self._phase is Phase.ANSWER and self.pipeline:
            self._turn(Phase.ANSWER, ANSWER_S)
        elif self._phase is Phase.ANSWER:
            self._edge.rested(self)
            self._turn(Phase.IDLE, self._limits.idle_s)
        elif self._phase is Phase.BODY and self.cycle.response_complete:
            self.due = min(self.due, monotonic() + LINGER_S)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or one that was stopped while it was parsed."""
        if self._refusal is not None:
            self.refuse(self._refusal, "too_large")
        else:
            self.refuse(ApiError(400, "bad_request", "", msg), "bad_request")

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's own timer of idle connections; ours also ends those that do not read their answer."""

    def turn_away(self) -> None:
        """Close a connection for which there is no room."""
        CLOSED.labels("crowded").inc()
        self._phase = Phase.CLOSING
        error = ApiError(503, "busy", "", "too many requests at once", retry_after_s=1)
        self.transport.write(raw_answer(error))
        self.transport.close()

    def refuse(self, error: ApiError, reason: str) -> None:
        """Answer with an error and close soon; what the client still sends is dropped."""
        CLOSED.labels(reason).inc()
        cycle, phase = self.cycle, self._phase
        self._edge.rested(self)  # its place may be taken
        self._turn(Phase.CLOSING, LINGER_S)
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        # A request has one answer: what is wrong with the rest of one that was answered is not said.
        if cycle is not None and cycle.response_started and phase in {Phase.BODY, Phase.ANSWER}:
            self.drop(None)
        else:
            self.transport.write(raw_answer(error))

    def expire(self) -> None:
        """Close: the time for what it is waiting for is over."""
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
        """End parsing; `send_400_response` follows."""
        self._refusal = error
        raise error


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
