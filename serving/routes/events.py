"""`POST /v1/events`: one record or a batch of them, to the event log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from feature_repo.batch import Given, as_json, decode_batch
from feature_repo.errors import LogError
from serving.http import ClientGone, Receive, Send, read_body, respond, respond_error
from serving.http import Scope as AsgiScope
from serving.keys import Keys, Scope
from serving.metrics import Metrics
from serving.problem import ApiError, Problem

log = logging.getLogger(__name__)

SOURCE = "http"
RETRY_AFTER_S = 2
THREADS = 4
MAX_WAITING = 64
"""Batches a worker holds at once; a log that is too slow for them is no place to wait."""
MAX_RECORDS = 10_000
"""Records of one batch: what a body of small ones would else hold takes the event loop too long."""


class Rejection(Protocol):
    """A record that was refused, by its index in the batch."""

    @property
    def index(self) -> int: ...
    @property
    def code(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def message(self) -> str: ...


class DoorResult(Protocol):
    """What became of a batch."""

    @property
    def accepted(self) -> int: ...
    @property
    def rejected(self) -> Sequence[Rejection]: ...


class Door(Protocol):
    """`streaming.door.EventDoor`: validates, quarantines, publishes. Blocking."""

    def accept(self, raws: Sequence[Given], source: str) -> DoorResult:
        """Take in records.

        Raises:
            LogError: nothing was published.
        """
        ...


class RejectedRecord(msgspec.Struct, frozen=True):
    """A record that was quarantined: which one, and why."""

    index: int
    code: str
    field: str
    message: str


class EventsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many records were taken, and which were not."""

    accepted: int
    rejected: list[RejectedRecord]
    error: Problem | None = None


class EventsRoute:
    """Reads, validates and publishes what was posted; publishing is off the event loop.

    Answers 202 where anything was taken (or nothing was sent), 422 where every record was refused, 503 with
    ``Retry-After`` where the event log cannot be written: nothing is acknowledged then.

    Args:
        hear: told each record taken in.
    """

    def __init__(
        self,
        door: Door,
        metrics: Metrics,
        keys: Keys,
        max_body_bytes: int,
        hear: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        self._door = door
        self._hear = hear
        self._metrics = metrics
        self._keys = keys
        self._limit = max_body_bytes
        self._encoder = msgspec.json.Encoder()
        # Threads of its own: a log that hangs must not hold up the flags, which use asyncio's.
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="events")
        self._waiting = 0

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One request, as ASGI."""
        try:
            body = await read_body(scope, receive, self._limit)
            result = await self.take(scope["headers"], body)
        except ApiError as error:
            self._metrics.refused.labels(error.code).inc()
            await respond_error(send, error)
            return
        except ClientGone:
            return
        answer = _answer(result)
        await respond(send, 202 if answer.error is None else 422, self._encoder.encode(answer))

    async def take(
        self, headers: Sequence[tuple[bytes, bytes]], records: bytes | Sequence[Given]
    ) -> DoorResult:
        """Check the key and hand records, or a body of them, to the door.

        Raises:
            ApiError: the key does not do, the body holds no records, or the log cannot be written.
        """
        self._keys.check(headers, Scope.EVENTS)
        if isinstance(records, bytes):
            records = records_of(records)
        try:
            result = await self._accepted(records)
        except LogError as error:
            log.error("events refused: %s", error)
            message = "the event log cannot be written now; nothing was stored: send the same records again"
            raise ApiError(503, "log_unavailable", "", message, retry_after_s=RETRY_AFTER_S) from error
        self._metrics.events.labels("accepted").inc(result.accepted)
        self._metrics.events.labels("rejected").inc(len(result.rejected))
        rejected = {record.index for record in result.rejected}
        for index, record in enumerate(records):
            if index not in rejected and isinstance(record, Mapping):
                self._hear(record)
        return result

    async def _accepted(self, records: Sequence[Given]) -> DoorResult:
        if len(records) > MAX_RECORDS:
            message = f"body: {len(records)} records; send at most {MAX_RECORDS} at once"
            raise ApiError(422, "too_many_records", "", message)
        if self._waiting >= MAX_WAITING:
            message = (
                "the event log is too slow for what is sent; nothing was stored: send the same records again"
            )
            raise ApiError(503, "busy", "", message, retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        future = self._pool.submit(self._door.accept, records, SOURCE)
        loop = asyncio.get_running_loop()
        # Counted down when the thread is done: a client that goes away frees none.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Take nothing more; threads end with what they are at."""
        self._pool.shutdown(wait=False)


def records_of(body: bytes) -> list[Given]:
    """The records of a body: one object, or an array of them.

    Elements of an array that are no objects are handed on as JSON text, for the door to quarantine; so is
    a record with text that is not Unicode, or with a number too large.

    Raises:
        ApiError: the body is no JSON, or neither object nor array.
    """
    try:
        value = decode_batch(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"body: not valid JSON in UTF-8 ({error}); send one event object or an array of them"
        raise ApiError(422, "not_json", "", message) from error
    if isinstance(value, dict):
        return [_event_by_default(value)]
    if isinstance(value, list):
        return [_event_by_default(v) if isinstance(v, dict) else as_json(v) for v in value]
    message = "body: neither an object nor an array; send one event object or an array of them"
    raise ApiError(422, "wrong_type", "", message)


def _event_by_default(record: dict[str, Any]) -> dict[str, Any]:
    """What names no kind is an event: this is the events door; items and users say what they are."""
    return record if record.get("record") is not None else {**record, "record": "event"}


def rejections(rejected: Sequence[Rejection]) -> list[RejectedRecord]:
    """What an answer says of the records refused."""
    return [RejectedRecord(r.index, r.code, r.field, r.message) for r in rejected]


def _answer(result: DoorResult) -> EventsAnswer:
    rejected = rejections(result.rejected)
    error = None
    if rejected and not result.accepted:
        first = rejected[0]
        error = Problem(first.code, first.field, first.message)
    return EventsAnswer(result.accepted, rejected, error)
