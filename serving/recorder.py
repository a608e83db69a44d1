"""Writes decision records to the event log from a thread of its own: never on the way of an answer."""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable

from feature_repo.errors import LogError
from serving.answer import RankAnswer
from serving.breaker import Breaker
from serving.context import RankContext
from serving.decision import Decision, decision_of, encode_decision, sampled
from serving.decision_marks import Marks
from streaming.log import EventLog

log = logging.getLogger(__name__)

QUEUE = 4096
BATCH = 256
LINGER_S = 0.02
"""How long the thread waits for more to write at once: each waking takes the interpreter from a ranking."""
REMEMBERED = 1000
"""Decisions kept in memory, to be looked up before they are in the log."""


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
    ) -> None:
        self._on_each = on_each
        self._breaker = breaker or Breaker("event_log")
        self._log = event_log
        self._marks = marks
        self._salt = salt
        self._on_written = on_written
        self._on_dropped = on_dropped
        self._queue: queue.Queue[tuple[RankContext, RankAnswer] | None] = queue.Queue(queue_size)
        self._recent: OrderedDict[str, Decision] = OrderedDict()
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

    def offer(self, context: RankContext, answer: RankAnswer) -> None:
        """Take an answer, unless sampling leaves it out. Returns at once; a full queue drops and counts."""
        if not sampled(answer.request_id, context.flags.decision_share):
            return
        try:
            self._queue.put_nowait((context, answer))
        except queue.Full:
            self._on_dropped("queue_full", 1)

    def recent(self, request_id: str) -> Decision | None:
        """A decision of this process that was written lately."""
        with self._lock:
            return self._recent.get(request_id)

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

    def _write(self, made: list[tuple[RankContext, RankAnswer]]) -> None:
        if not made:
            return
        try:
            decisions = [decision_of(context, answer, self._salt) for context, answer in made]
            self._remember(decisions)
            self._publish(decisions)
        except Exception:
            log.exception("%d decisions dropped", len(made))
            self._on_dropped("broken", len(made))
        for context, _ in made:
            try:
                self._on_each(context)
            except Exception:
                log.exception("an answer could not be measured")

    def _publish(self, decisions: list[Decision]) -> None:
        if not self._breaker.allow():
            self._on_dropped("log_open", len(decisions))
            return
        try:
            if self._marks is not None:
                self._marks.note(self._log)
            self._log.publish([(d.request_id, encode_decision(d)) for d in decisions])
        except LogError as error:
            self._breaker.record(False)
            log.warning("%d decisions dropped: %s", len(decisions), error)
            self._on_dropped("log_failed", len(decisions))
        else:
            self._breaker.record(True)
            self._on_written(len(decisions))

    def _remember(self, decisions: list[Decision]) -> None:
        with self._lock:
            for decision in decisions:
                self._recent[decision.request_id] = decision
                self._recent.move_to_end(decision.request_id)
            while len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
