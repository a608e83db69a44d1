"""Writes decision records to the event log, never on the way of an answer.

A record is put together right after its answer was sent, a copy of bytes mostly; a thread of its own writes
what is waiting. When it was put together in that thread, which waits half a millisecond whenever it wants the
interpreter from a busy event loop, half of a thousand answers a second were not recorded.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from feature_repo.errors import LogError
from serving.decisions.record import Answered, Decision, decode_decision, record_of, sampled
from serving.decisions.time_marks import Marks
from serving.monitoring.circuit_breaker import Breaker
from serving.monitoring.safe_traceback import place_of
from serving.pipeline.context import RankContext
from streaming.log import EventLog

log = logging.getLogger(__name__)

QUEUED_BYTES = 64 << 20
"""Records that may wait to be written."""
BATCH = 256
LINGER_S = 0.02
"""How long the thread waits for more to write at once: each waking takes the interpreter from a ranking."""
REMEMBERED_BYTES = 16 << 20
"""Records kept in memory, to be looked up before they are in the log."""


class Recorder:
    """Takes answers, writes decisions.

    Args:
        event_log: of the topic `decision.TOPIC`.
        salt: of hashed ids.
        on_written: told how many records were written.
        on_dropped: told why and how many were not: ``queue_full``, ``log_failed``, ``log_open``, ``broken``,
            ``shutdown``.
        on_each: told each context whose answer goes to the log.
        breaker: of the log; only the recorder's thread uses it.
        marks: told where the log stands, so that records are found.
    """

    def __init__(
        self,
        event_log: EventLog,
        salt: str,
        on_written: Callable[[int], None],
        on_dropped: Callable[[str, int], None],
        *,
        on_each: Callable[[RankContext], None] = lambda _: None,
        breaker: Breaker | None = None,
        marks: Marks | None = None,
        queued_bytes: int = QUEUED_BYTES,
        remembered_bytes: int = REMEMBERED_BYTES,
    ) -> None:
        self._on_each = on_each
        self._breaker = breaker or Breaker("event_log")
        self._log = event_log
        self._marks = marks
        self._salt = salt
        self._on_written = on_written
        self._on_dropped = on_dropped
        self._queue: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._queued_bytes, self._most_bytes = 0, queued_bytes
        self._recent: OrderedDict[str, list[bytes]] = OrderedDict()
        self._recent_bytes = 0
        self._remembered_bytes = remembered_bytes
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)

    def start(self) -> None:
        """Begin writing."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what is waiting, then end; what still waits then is counted as dropped."""
        self._ending.set()
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout_s)
        if left := self._taken(self._queue.qsize()):
            log.warning("decisions: the log takes no more; %d are dropped", len(left))
            self._let_go(left)
            self._on_dropped("shutdown", len(left))

    def offer(self, made: Answered) -> None:
        """Take an answer, unless sampling leaves it out. Waits for nothing; a full queue drops and counts."""
        request_id = made.context.request_id
        if not sampled(request_id, made.context.flags.decision_share):
            return
        try:
            record = record_of(made, self._salt)
        except Exception as error:
            log.error("a decision dropped, request %r: %s", request_id, place_of(error))
            self._on_dropped("broken", 1)
            return
        with self._lock:
            full = self._queued_bytes + len(record) > self._most_bytes
            self._queued_bytes += 0 if full else len(record)
        if full:
            self._on_dropped("queue_full", 1)
            return
        self._queue.put((request_id, record))
        try:
            self._on_each(made.context)
        except Exception as error:
            log.error("an answer could not be measured: %s", place_of(error))

    def recent(self, request_id: str) -> list[Decision]:
        """Decisions of this process that were written lately, newest first."""
        with self._lock:
            raws = list(self._recent.get(request_id, ()))
        return [decode_decision(raw) for raw in reversed(raws)]

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            self._ending.wait(LINGER_S)
            records = [first, *self._taken(BATCH - 1)]
            self._remember(records)
            self._publish(records)
            self._let_go(records)

    def _let_go(self, records: Sequence[tuple[str, bytes]]) -> None:
        with self._lock:
            self._queued_bytes -= sum(len(record) for _, record in records)

    def _taken(self, most: int) -> list[tuple[str, bytes]]:
        """What is waiting, up to the end."""
        taken: list[tuple[str, bytes]] = []
        while len(taken) < most:
            try:
                one = self._queue.get_nowait()
            except queue.Empty:
                break
            if one is None:
                self._queue.put(None)  # for the thread to end by
                break
            taken.append(one)
        return taken

    def _publish(self, records: Sequence[tuple[str, bytes]]) -> None:
        if not self._breaker.allow():
            self._on_dropped("log_open", len(records))
            return
        try:
            if self._marks is not None:
                self._marks.note(self._log)
            self._log.publish(records)
        except LogError as error:
            self._breaker.record(False)
            log.warning("%d decisions dropped: %s", len(records), error)
            self._on_dropped("log_failed", len(records))
        except Exception:
            self._breaker.release()
            log.exception("%d decisions dropped", len(records))
            self._on_dropped("broken", len(records))
        else:
            self._breaker.record(True)
            self._on_written(len(records))

    def _remember(self, records: Sequence[tuple[str, bytes]]) -> None:
        with self._lock:
            for request_id, raw in records:
                of_id = self._recent.setdefault(request_id, [])
                self._recent.move_to_end(request_id)
                if raw not in of_id:  # a client may use an id again, for another request
                    of_id.append(raw)
                    self._recent_bytes += len(raw)
            while self._recent_bytes > self._remembered_bytes:
                self._recent_bytes -= sum(map(len, self._recent.popitem(last=False)[1]))
