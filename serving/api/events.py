"""`POST /v1/events`: writes one record or a batch to the event log."""

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
from streaming.ingest.event_door import DoorResult, Rejection
from streaming.log import PartlyWrittenError

log = logging.getLogger(__name__)

SOURCE = "http"
RETRY_AFTER_S = 2
THREADS = 4
MAX_WAITING = 64
"""Maximum number of batches that wait in one worker; more are refused while the log is slow."""


class Door(Protocol):
    """`streaming.ingest.event_door.EventDoor`: validates, quarantines, publishes. Blocking."""

    def accept(self, raws: Sequence[Given], source: str) -> DoorResult:
        """Validate and publish records.

        Raises:
            LogError: not all records were published; `PartlyWrittenError` if some were.
        """
        ...


Read: TypeAlias = Callable[[bytes], list[Given]]
"""Parses a body into records; raises `ApiError`."""


class RejectedRecord(msgspec.Struct, frozen=True):
    """A quarantined record: its index and the reason."""

    index: int
    code: str
    field: str
    message: str


class EventsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The number of accepted records, and the rejected ones."""

    accepted: int
    rejected: list[RejectedRecord]
    error: Problem | None = None
    note: str = ""


class EventsRoute:
    """Reads, validates and publishes posted records. Only reading happens on the event loop.

    Answers 202 if any record was accepted or none was sent, and 422 if every record was refused. If the event
    log cannot be written it answers 503 with ``Retry-After``; nothing is acknowledged, and the message says
    what was stored nevertheless.

    Args:
        hear: called with each accepted record that states a consent.
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
        # A separate pool: a hanging log must not block the flags, which use asyncio's threads.
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
        """Pass the records of a body to the door. The caller has checked the key.

        Args:
            read: parses the body into records, in a thread; `records_of` by default.

        Raises:
            ApiError: the body cannot be parsed, or the log cannot be written.
        """
        if self._waiting >= MAX_WAITING:
            message = (
                "too many batches wait for the event log; nothing was stored: send the same records again"
            )
            raise ApiError(503, "busy", "", message, retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        future = self._pool.submit(self._taken, body, read or records_of)
        loop = asyncio.get_running_loop()
        # Decrement only when the thread is done: a client that disconnects does not free it.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        result, heard = await asyncio.wrap_future(future)
        self._metrics.events.labels("accepted").inc(result.accepted)
        self._metrics.events.labels("rejected").inc(len(result.rejected))
        for record in heard:
            self._hear(record)
        return result

    def _taken(self, body: bytes, read: Read) -> tuple[DoorResult, list[Mapping[str, Any]]]:
        """Return the outcome of a body, and its accepted records that state a consent."""
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
        """Accept no more batches; the threads finish their current ones."""
        self._pool.shutdown(wait=False)


def _stored(error: LogError) -> str:
    """Say which records of a batch are in the log although writing failed."""
    if not isinstance(error, PartlyWrittenError):
        return "nothing was stored: send the same records again"
    again = "send the same records again: those stored are recognized by their event_id"
    if error.written is None:
        return f"some of the {error.total} records may be stored; {again}"
    return f"{error.written} of {error.total} records are stored, the others are not; {again}"


def _states_consent(record: Mapping[str, Any]) -> bool:
    return record.get("record") == "user" or record.get("consent") is not None


def records_of(body: bytes) -> list[Given]:
    """Parse a body into records: one object, or an array of them.

    Array elements that are not objects are passed on as JSON text for the door to quarantine, and so are
    records with invalid Unicode or a number that is too large.

    Raises:
        ApiError: the body is not JSON, neither an object nor an array, or holds too many records.
    """
    return [_event_by_default(v) if isinstance(v, dict) else as_json(v) for v in values_of(body)]


def _event_by_default(record: dict[str, Any]) -> dict[str, Any]:
    """Treat a record without a kind as an event; items and users must state theirs."""
    return record if record.get("record") is not None else {**record, "record": "event"}


def rejections(rejected: Sequence[Rejection]) -> list[RejectedRecord]:
    """List the refused records for an answer."""
    return [RejectedRecord(r.index, r.code, r.field, r.message) for r in rejected]


def note_of(result: DoorResult) -> str:
    """Return a warning for the sender, or an empty string."""
    if not result.unkept:
        return ""
    return (
        f"the quarantine cannot be written: {result.unkept} of the rejected records were not stored; "
        "keep them, and send them again once they are corrected"
    )


def _answer(result: DoorResult) -> EventsAnswer:
    rejected = rejections(result.rejected)
    error = None
    if rejected and not result.accepted:
        first = rejected[0]
        error = Problem(first.code, first.field, first.message)
    return EventsAnswer(result.accepted, rejected, error, note_of(result))
