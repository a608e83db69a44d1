"""`POST /v1/events`: one record or a batch of them, to the event log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

import msgspec

from feature_repo.contract.json_batch import Given, as_json
from feature_repo.errors import LogError
from serving.api.api_keys import Keys, Scope
from serving.api.asgi import ClientGone, Receive, Send, read_body, respond, respond_error
from serving.api.asgi import Scope as AsgiScope
from serving.api.posted import values_of
from serving.monitoring.metrics import Metrics
from serving.schemas.errors import ApiError, Problem
from streaming.log import PartlyWrittenError

log = logging.getLogger(__name__)

SOURCE = "http"
RETRY_AFTER_S = 2
THREADS = 4
MAX_WAITING = 64
"""Batches a worker holds at once; a log that is too slow for them is no place to wait."""


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
    @property
    def unkept(self) -> int: ...


class Door(Protocol):
    """`streaming.ingest.event_door.EventDoor`: validates, quarantines, publishes. Blocking."""

    def accept(self, raws: Sequence[Given], source: str) -> DoorResult:
        """Take in records.

        Raises:
            LogError: not all was published; `PartlyWrittenError` where some was.
        """
        ...


Read: TypeAlias = Callable[[bytes], list[Given]]
"""Makes records of a body; raises `ApiError`."""


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
    note: str = ""


class EventsRoute:
    """Reads, validates and publishes what was posted; all but reading is off the event loop.

    Answers 202 where anything was taken (or nothing was sent), 422 where every record was refused, 503 with
    ``Retry-After`` where the event log cannot be written: nothing is acknowledged then, and the message says
    what is stored nevertheless.

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
            self._keys.check(scope["headers"], Scope.EVENTS)
            result = await self.take(await read_body(scope, receive, self._limit))
        except ApiError as error:
            self._metrics.refused.labels(error.code).inc()
            await respond_error(send, error)
            return
        except ClientGone:
            return
        answer = _answer(result)
        await respond(send, 202 if answer.error is None else 422, self._encoder.encode(answer))

    async def take(self, body: bytes, read: Read | None = None) -> DoorResult:
        """Hand the records of a body to the door. The key was checked before the body was read.

        Args:
            read: makes records of the body; by default `records_of`. Called in a thread.

        Raises:
            ApiError: the body holds no records, or the log cannot be written.
        """
        if self._waiting >= MAX_WAITING:
            message = (
                "the event log is too slow for what is sent; nothing was stored: send the same records again"
            )
            raise ApiError(503, "busy", "", message, retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        future = self._pool.submit(self._taken, body, read or records_of)
        loop = asyncio.get_running_loop()
        # Counted down when the thread is done: a client that goes away frees none.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        result, heard = await asyncio.wrap_future(future)
        self._metrics.events.labels("accepted").inc(result.accepted)
        self._metrics.events.labels("rejected").inc(len(result.rejected))
        for record in heard:
            self._hear(record)
        return result

    def _taken(self, body: bytes, read: Read) -> tuple[DoorResult, list[Mapping[str, Any]]]:
        """What became of a body, and the records taken that state a consent."""
        records = read(body)
        try:
            result = self._door.accept(records, SOURCE)
        except LogError as error:
            log.error("events refused: %s", error)
            message = f"the event log cannot be written now; {_stored(error)}"
            raise ApiError(503, "log_unavailable", "", message, retry_after_s=RETRY_AFTER_S) from error
        rejected = {record.index for record in result.rejected}
        heard = [
            record
            for index, record in enumerate(records)
            if isinstance(record, Mapping) and index not in rejected and _states_consent(record)
        ]
        return result, heard

    def _done(self) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Take nothing more; threads end with what they are at."""
        self._pool.shutdown(wait=False)


def _stored(error: LogError) -> str:
    """What of a batch is in the log although writing failed."""
    if not isinstance(error, PartlyWrittenError):
        return "nothing was stored: send the same records again"
    again = "send the same records again: those stored are recognized by their event_id"
    if error.written is None:
        return f"some of the {error.total} records may be stored; {again}"
    return f"{error.written} of {error.total} records are stored, the others are not; {again}"


def _states_consent(record: Mapping[str, Any]) -> bool:
    return record.get("record") == "user" or record.get("consent") is not None


def records_of(body: bytes) -> list[Given]:
    """The records of a body: one object, or an array of them.

    Elements of an array that are no objects are handed on as JSON text, for the door to quarantine; so is
    a record with text that is not Unicode, or with a number too large.

    Raises:
        ApiError: the body is no JSON, neither object nor array, or holds too many records.
    """
    return [_event_by_default(v) if isinstance(v, dict) else as_json(v) for v in values_of(body)]


def _event_by_default(record: dict[str, Any]) -> dict[str, Any]:
    """What names no kind is an event: this is the events door; items and users say what they are."""
    return record if record.get("record") is not None else {**record, "record": "event"}


def rejections(rejected: Sequence[Rejection]) -> list[RejectedRecord]:
    """What an answer says of the records refused."""
    return [RejectedRecord(r.index, r.code, r.field, r.message) for r in rejected]


def note_of(result: DoorResult) -> str:
    """What the sender should know beside the counts."""
    if not result.unkept:
        return ""
    return (
        f"the quarantine cannot be written: {result.unkept} of the rejected records are not kept; "
        "keep them, and send them again once they are right"
    )


def _answer(result: DoorResult) -> EventsAnswer:
    rejected = rejections(result.rejected)
    error = None
    if rejected and not result.accepted:
        first = rejected[0]
        error = Problem(first.code, first.field, first.message)
    return EventsAnswer(result.accepted, rejected, error, note_of(result))
