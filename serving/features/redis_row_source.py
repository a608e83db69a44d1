"""Reads the online store on Redis without threads: prepared commands on one multiplexed connection.

redis-py's asyncio client takes longer to pack and parse a pipeline of three HMGET than Redis takes to answer
it (docs/adr/0060). Here commands are packed once per group, hiredis parses the replies, and concurrent
requests share the connection. redis-py still parses the URL, including TLS options.

Replies do not name their command. If a proxy lost one, all later requests would get the rows of other users.
Each request therefore ends with an ECHO of a unique marker (docs/adr/0074).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any, NamedTuple, cast

import hiredis

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online.commands import KEY_TAIL, KeyHeads, bulk
from feature_repo.online.layout import ViewLayout, layout_of
from feature_repo.online.redis_url import redis_options, tls_context
from feature_repo.online.row_memo import KeptRows
from feature_repo.online.rows import OnlineRow
from serving.features.row_source import Key

MAX_WAITING = 256
"""Maximum number of outstanding requests; more are refused because Redis is too slow."""
OLDEST_S = 5.0
"""Age of the oldest unanswered request at which the connection is closed."""
REMEMBERED = 10_000
"""Maximum number of cached decoded rows of each group; a full cache is cleared."""


def command(*parts: bytes) -> bytes:
    """Encode a command in Redis's protocol."""
    return b"*%d\r\n" % len(parts) + b"".join(map(bulk, parts))


_ECHO = b"*2\r\n$4\r\nECHO\r\n$16\r\n"


class _Asked(NamedTuple):
    """A request in flight."""

    answer: asyncio.Future[list[Any]]
    replies: int
    expected: tuple[type, ...]
    marker: bytes
    at: float


class _Plan:
    """HMGET of one group: packs everything but the key once, and caches decoded rows."""

    def __init__(self, layout: ViewLayout, remembered: int) -> None:
        fields = (*layout.fields, layout.time_field)
        self._heads = KeyHeads(b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields)), layout.join_key)
        self._tail = KEY_TAIL + b"".join(map(bulk, fields))
        self._kept = KeptRows(layout.decode, remembered)
        self._width = len(fields)

    def pack(self, key: str) -> bytes:
        raw = key.encode()
        return self._heads[len(raw)] + raw + self._tail

    def row(self, key: str, raws: Any) -> OnlineRow | None:
        if not isinstance(raws, list) or len(raws) != self._width:
            raise _unexpected(raws)
        return self._kept.row(key, raws)


class _Link(asyncio.Protocol):
    """One connection. Replies arrive in the order of the commands: the oldest request takes the next ones."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[_Asked] = deque()
        self._replies: list[Any] = []
        self._transport: asyncio.Transport | None = None
        self._name = os.urandom(4).hex().encode()  # unique, in case a proxy mixes up connections
        self._requests = 0
        self.open = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def oldest_s(self) -> float:
        """Seconds for which the oldest request has waited for its reply."""
        return monotonic() - self._waiting[0].at if self._waiting else 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not a subclass
        self.open = True

    def ask(
        self, commands: Sequence[bytes], expected: tuple[type, ...] = (list, hiredis.ReplyError)
    ) -> asyncio.Future[list[Any]]:
        """Send commands and a marker. Each command gets one reply of an expected type."""
        assert self._transport is not None
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._requests += 1
        marker = b"%b%08x" % (self._name, self._requests & 0xFFFFFFFF)
        self._waiting.append(_Asked(answer, len(commands), expected, marker, monotonic()))
        self._transport.write(b"".join((*commands, _ECHO, marker, b"\r\n")))
        return answer

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if not self._waiting:
                    msg = "a reply without a request"
                    raise hiredis.ProtocolError(msg)
                asked = self._waiting[0]
                if len(self._replies) < asked.replies:
                    if not isinstance(reply, asked.expected):
                        raise _unexpected(reply)
                    self._replies.append(reply)
                    continue
                if reply != asked.marker:
                    raise _unmarked(self._replies, reply)
                self._waiting.popleft()
                if not asked.answer.done():
                    asked.answer.set_result(self._replies)
                self._replies = []
        except hiredis.HiredisError as error:
            self._fail(StoreError(f"online store: Redis sent an invalid reply ({error})"))
        except StoreError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        msg = (
            f"online store: the connection to Redis was lost ({exc or 'closed'}); "
            "is it running, and is HEADRACE_REDIS_URL right (rediss:// for TLS)?"
        )
        self._fail(StoreError(msg))

    def close(self) -> None:
        self._fail(StoreError("online store: the connection to Redis was closed"))

    def _fail(self, error: StoreError) -> None:
        self.open = False
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            if not asked.answer.done():
                asked.answer.set_exception(error)
        if self._transport is not None:
            self._transport.abort()


class RedisSource:
    """`RowSource` on one Redis.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user, password and database.
        connect_timeout_s: time limit for connecting.
        oldest_s: age of the oldest unanswered request at which the connection is closed.
        remembered: maximum number of cached decoded rows of each group.
    """

    def __init__(
        self,
        url: str,
        connect_timeout_s: float = 1.0,
        oldest_s: float = OLDEST_S,
        remembered: int = REMEMBERED,
    ) -> None:
        self._options = redis_options(url)
        self._connect_timeout_s = connect_timeout_s
        self._oldest_s = oldest_s
        self._remembered = remembered
        self._plans: dict[FeatureGroup, _Plan] = {}
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    def read(self, keys: Sequence[Key]) -> Coroutine[Any, Any, list[OnlineRow | None]]:
        """See `RowSource.read`. On an open connection the request is sent at the call."""
        asked = [(self._plan(group), key) for group, key in keys]
        commands = [plan.pack(key) for plan, key in asked]
        link = self._link
        if link is not None and link.oldest_s > self._oldest_s:
            # A connection cut off by a firewall or a failover stays silent for many minutes.
            link.close()
        ready = link is not None and link.open and link.waiting < MAX_WAITING
        return self._rows(asked, commands, link.ask(commands) if link and ready else None)

    async def _rows(
        self,
        asked: Sequence[tuple[_Plan, str]],
        commands: Sequence[bytes],
        replies: asyncio.Future[list[Any]] | None,
    ) -> list[OnlineRow | None]:
        if replies is None:
            link = self._link
            if link is None or not link.open:
                link = await self._connected()
            if link.waiting >= MAX_WAITING:
                msg = f"online store: {link.waiting} reads are already waiting; Redis is too slow"
                raise StoreError(msg)
            replies = link.ask(commands)
        return [plan.row(key, raws) for (plan, key), raws in zip(asked, await replies, strict=True)]

    async def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.close()

    def _plan(self, group: FeatureGroup) -> _Plan:
        found = self._plans.get(group)
        if found is None:
            found = self._plans[group] = _Plan(layout_of(group), self._remembered)
        return found

    async def _connected(self) -> _Link:
        """Connect. Concurrent callers share one attempt, which continues if one of them gives up."""
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_retrieve)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> _Link:
        link: _Link | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                link = await self._open()
                greeting = self._greeting()
                replies = await link.ask(greeting, (object,)) if greeting else []
            if refused := next((r for r in replies if isinstance(r, hiredis.ReplyError)), None):
                link.close()
                raise _RefusedError(refused)
        except _RefusedError as error:
            msg = f"online store: Redis refused the connection ({error.reply}); is HEADRACE_REDIS_URL right?"
            raise StoreError(msg) from error
        except (OSError, TimeoutError) as error:
            if link is not None:
                link.close()
            where = self._options.get("path") or f"{self._host}:{self._port}"
            why = str(error) or type(error).__name__
            msg = (
                f"online store: Redis at {where} cannot be reached ({why}); "
                "is it running, and is HEADRACE_REDIS_URL right?"
            )
            raise StoreError(msg) from error
        self._link = link
        return link

    @property
    def _host(self) -> str:
        return str(self._options.get("host", "localhost"))

    @property
    def _port(self) -> int:
        return int(self._options.get("port", 6379))

    async def _open(self) -> _Link:
        loop = asyncio.get_running_loop()
        if path := self._options.get("path"):
            return (await loop.create_unix_connection(_Link, path))[1]
        tls = tls_context(self._options)
        return (await loop.create_connection(_Link, self._host, self._port, ssl=tls))[1]

    def _greeting(self) -> list[bytes]:
        """Return the commands that a new connection starts with."""
        commands = []
        password, username = self._options.get("password"), self._options.get("username")
        if password:
            names = [username.encode()] if username else []
            commands.append(command(b"AUTH", *names, password.encode()))
        if db := self._options.get("db"):
            commands.append(command(b"SELECT", str(db).encode()))
        return commands


class _RefusedError(StoreError):
    """Redis answered with an error, for example because of a wrong password or a forbidden command."""

    def __init__(self, reply: hiredis.ReplyError) -> None:
        super().__init__(f"online store: Redis answered {reply!s:.200} instead of rows")
        self.reply = reply


def _unexpected(reply: Any) -> StoreError:
    return StoreError(f"online store: Redis answered {reply!r:.200} instead of a row")


def _unmarked(replies: Sequence[Any], marker: Any) -> StoreError:
    """Make the error for a request whose last reply is not its marker."""
    refused = next((r for r in (*replies, marker) if isinstance(r, hiredis.ReplyError)), None)
    if refused is not None:
        return _RefusedError(refused)
    return StoreError("online store: a reply of Redis was lost or duplicated; the connection is closed")


def _retrieve(task: asyncio.Task[_Link]) -> None:
    """Retrieve the exception of an attempt that nobody awaits, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
