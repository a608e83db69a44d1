"""One partition of a Kafka topic read by offset, and how long Kafka's passing errors are waited out."""

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
"""What a broker answers for a moment after a topic was made or it was restarted."""


class KafkaReader:
    """One partition read by offset. Kafka fetches ahead in the background."""

    def __init__(self, common: dict[str, Any], topic: str, partition: int, timeout_s: float) -> None:
        self._place = (topic, partition)
        self._next = self._ended = -1
        self._timeout_s = timeout_s
        self._lock = Lock()
        self.consumer: Any = Consumer(
            {
                **common,
                "group.id": "headrace-log",  # required, never used: positions are the reader's own
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # a position that was trimmed reads on from the oldest
                "fetch.wait.max.ms": 10,
                "enable.partition.eof": True,  # tells how far transaction markers go, which are no records
            }
        )

    def watermarks(self) -> tuple[int, int]:
        """The oldest offset kept, and the one after the newest record."""
        low, high = self.consumer.get_watermark_offsets(TopicPartition(*self._place), timeout=self._timeout_s)
        return low, high

    def read(self, offset: int, limit: int) -> Batch:
        """At most `limit` records from an offset on."""
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
        """A message without a value; its key, which is all it has."""
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
    """Call Kafka, again while it answers that it is not ready yet, for at most `timeout_s`."""
    return Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, KafkaException) and e.args[0].code() in _PASSING),
        stop=stop_after_delay(timeout_s),
        wait=wait_exponential_jitter(0.05, 1.0),
        reraise=True,
    )(call)


def token(offset: int) -> Position:
    """An offset as a position of one width."""
    return f"{offset:0{_WIDTH}d}"


def offset_of(position: Position) -> int:
    """The offset of a position.

    Raises:
        LogError: it is of another sort of log.
    """
    if not position.isdigit():
        msg = f"event log: {position!r} is no position of a Kafka log"
        raise LogError(msg)
    return int(position)
