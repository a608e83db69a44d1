"""Writes decision records to the event log from a thread of its own: never on the way of an answer."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from feature_repo.errors import LogError
from serving.breaker import Breaker
from serving.context import RankContext
from serving.decision import Answered, Decision, decode_decision, record_of, sampled
from serving.decision_marks import Marks
from streaming.log import EventLog

log = logging.getLogger(__name__)

QUEUE = 4096
BATCH = 256
LINGER_S = 0.02
"""How long the thread waits for more to write at once: each waking takes the interpreter from a ranking."""
PAUSE_S = 5e-5
"""Rest between two records of a batch: a ranking that waits for the interpreter gets it then."""
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
        on_each: told each context, off the way of its answer.
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
        queue_size: int = QUEUE,
        remembered_bytes: int = REMEMBERED_BYTES,
    ) -> None:
        self._on_each = on_each
        self._breaker = breaker or Breaker("event_log")
        self._log = event_log
        self._marks = marks
        self._salt = salt
        self._on_written = on_written
        self._on_dropped = on_dropped
        self._queue: queue.Queue[Answered | None] = queue.Queue(queue_size)
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._recent_bytes = 0
        self._remembered_bytes = remembered_bytes
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)

    def start(self) -> None:
        """Begin writing."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what is waiting, then end; whatever is not written by then is counted as dropped."""
        self._ending.set()
        if self._thread.is_alive():
            try:
                self._queue.put(None, timeout=timeout_s)
            except queue.Full:
                log.warning("decisions: the queue stays full; giving up on it")
            self._thread.join(timeout_s)
        if left := self._queue.qsize():
            self._on_dropped("shutdown", left)

    def offer(self, made: Answered) -> None:
        """Take an answer, unless sampling leaves it out. Returns at once; a full queue drops and counts."""
        if not sampled(made.context.request_id, made.context.flags.decision_share):
            return
        try:
            self._queue.put_nowait(made)
        except queue.Full:
            self._on_dropped("queue_full", 1)

    def recent(self, request_id: str) -> Decision | None:
        """A decision of this process that was written lately."""
        with self._lock:
            raw = self._recent.get(request_id)
        return None if raw is None else decode_decision(raw)

    def _run(self) -> None:
        ended = False
        while not ended:
            waiting = [self._queue.get()]
            if waiting[0] is not None:
                self._ending.wait(LINGER_S)
            while len(waiting) < BATCH:
                try:
                    waiting.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            ended = None in waiting
            self._write([made for made in waiting if made is not None])

    def _write(self, batch: Sequence[Answered]) -> None:
        records: list[tuple[str, bytes]] = []
        for made in batch:
            try:
                records.append((made.context.request_id, record_of(made, self._salt)))
            except Exception:
                log.exception("a decision dropped, request %r", made.context.request_id)
                self._on_dropped("broken", 1)
            try:
                self._on_each(made.context)
            except Exception:
                log.exception("an answer could not be measured")
            time.sleep(PAUSE_S)
        if records:
            self._remember(records)
            self._publish(records)

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
                self._recent_bytes += len(raw) - len(self._recent.pop(request_id, b""))
                self._recent[request_id] = raw
            while self._recent_bytes > self._remembered_bytes:
                self._recent_bytes -= len(self._recent.popitem(last=False)[1])
