"""Reads one partition of a Kafka topic by offset, and waits out Kafka's transient errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from feature_repo.errors import LogError
from streaming.log.protocol import Batch, Damage, Position, PositionLostError

_WIDTH = 20
_T = TypeVar("_T")
_PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
}
"""Transient broker errors, shortly after a topic was created or the broker restarted."""


class KafkaReader:
    """Reader of one partition by offset. Kafka fetches ahead in the background."""

    def __init__(self, common: dict[str, Any], topic: str, partition: int, timeout_s: float) -> None:
        self._place = (topic, partition)
        self._next = self._ended = -1
        self._timeout_s = timeout_s
        self._lock = Lock()
        self.consumer: Any = Consumer(
            {
                **common,
                "group.id": "headrace-log",  # required but unused: the reader keeps its own positions
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # after a trim, reading continues at the oldest record
                "fetch.wait.max.ms": 10,
                "enable.partition.eof": True,  # reveals the end of transaction markers, which are not records
            }
        )

    def watermarks(self) -> tuple[int, int]:
        """Return the oldest offset, and the one after the newest record."""
        low, high = self.consumer.get_watermark_offsets(TopicPartition(*self._place), timeout=self._timeout_s)
        return low, high

    def read(self, offset: int, limit: int) -> Batch:
        """Read at most `limit` records from an offset on."""
        with self._lock:
            if offset != self._next:
                self.consumer.assign([TopicPartition(*self._place, offset)])
                self._next, self._ended = offset, -1
            deadline = time.monotonic() + self._timeout_s
            messages = self._consume(limit, 0.0)
            end = offset if messages else self.watermarks()[1]
            if end < offset:
                raise PositionLostError(self._place[0], token(offset), token(end))
            if end > offset:
                while not messages and self._ended < end and time.monotonic() < deadline:
                    messages = self._consume(limit, 0.05)
            self._next = messages[-1].offset() + 1 if messages else max(offset, self._ended)
            return self._batch(messages)

    def _batch(self, messages: Sequence[Any]) -> Batch:
        records = [m.value() for m in messages]
        places = [m.offset() for m in messages]
        if None not in records:
            return Batch(records, token(self._next), (), places)
        ours = [n for n, raw in enumerate(records) if raw is not None]
        empty = tuple(self._damage(m) for m in messages if m.value() is None)
        return Batch([records[n] for n in ours], token(self._next), empty, [places[n] for n in ours])

    def _damage(self, message: Any) -> Damage:
        """Report a message without a value, with its key as the raw bytes."""
        topic, partition = self._place
        reason = "a message without a value (a tombstone); a record is the value of a message"
        return Damage(f"topic {topic}, partition {partition}", message.offset(), message.key() or b"", reason)

    def _consume(self, limit: int, wait_s: float) -> list[Any]:
        found = self.consumer.consume(limit, wait_s)
        for message in found:
            if (error := message.error()) is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                self._ended = message.offset()
            elif error.code() not in _PASSING:
                raise KafkaException(error)
        return [m for m in found if m.error() is None]


def patiently(call: Callable[[], _T], timeout_s: float) -> _T:
    """Call Kafka, and retry while it is not ready, for at most `timeout_s`."""
    return Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, KafkaException) and e.args[0].code() in _PASSING),
        stop=stop_after_delay(timeout_s),
        wait=wait_exponential_jitter(0.05, 1.0),
        reraise=True,
    )(call)


def token(offset: int) -> Position:
    """Format an offset as a fixed-width position."""
    return f"{offset:0{_WIDTH}d}"


def offset_of(position: Position) -> int:
    """Return the offset of a position.

    Raises:
        LogError: the position belongs to another sort of log.
    """
    if not position.isdigit():
        msg = f"event log: {position!r} is not a position of a Kafka log"
        raise LogError(msg)
    return int(position)
