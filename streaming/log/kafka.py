"""The event log on Kafka: an idempotent producer, offsets as positions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from feature_repo.errors import LogError
from streaming.log.base import Batch, Keyed, Position, partition_of

TIMEOUT_S = 15.0
_WIDTH = 20
_T = TypeVar("_T")
_PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
}
"""What a broker answers for a moment after a topic was made or it was restarted."""
_logger = logging.getLogger(__name__)


class KafkaLog:
    """An `EventLog` on a Kafka topic, which is made at first use with the partitions and retention given.

    Acknowledged means written to all in-sync replicas.

    Args:
        bootstrap: servers, ``host:port,…``.
        topic: name of the topic.
        partitions: fixed when the topic is made.
        retention: how long Kafka keeps records.
        timeout_s: how long to wait for a broker.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        retention: timedelta,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._partitions = partitions
        self._timeout_s = timeout_s
        self._common = {"bootstrap.servers": bootstrap, "logger": _logger, "error_cb": _note}
        self._admin = AdminClient(dict(self._common))
        self._producer: Any = None
        self._consumers: dict[int, _Reader] = {}
        self._lock = Lock()
        self._make_topic(retention)

    @property
    def partitions(self) -> int:
        """How many partitions."""
        return self._partitions

    def publish(self, records: Sequence[Keyed]) -> None:
        """Append a batch; returns when all in-sync replicas have it. See `EventLog.publish`."""
        failed: list[str] = []

        def delivered(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error.str())

        with self._lock:
            producer = self._open_producer()
            for key, payload in records:
                self._produce(producer, key, payload, delivered)
            left = producer.flush(1.5 * self._timeout_s)
            if failed or left:
                self._producer = None  # a producer that gave up on a record cannot promise order any more
                producer.purge()
        if failed or left:
            why = failed[0] if failed else "no answer in time"
            raise self._error("write", f"{len(failed) + left} of {len(records)} records refused, {why}")

    def _produce(self, producer: Any, key: str, payload: bytes, delivered: Callable[..., None]) -> None:
        partition = partition_of(key, self._partitions)
        while True:
            try:
                producer.produce(self._topic, payload, key, partition, on_delivery=delivered)
            except BufferError:  # the queue is full: let the broker take some
                producer.poll(0.1)
            except KafkaException as error:
                self._producer = None
                raise self._error("write", error) from error
            else:
                return

    def _open_producer(self) -> Any:
        if self._producer is None:
            self._producer = Producer(
                {
                    **self._common,
                    "enable.idempotence": True,
                    "linger.ms": 2,
                    "compression.type": "lz4",
                    "message.timeout.ms": int(self._timeout_s * 1000),
                    "queue.buffering.max.messages": 1_000_000,
                }
            )
        return self._producer

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        """At most `limit` records after a position; waits only for records the broker is known to have."""
        offset = _offset(position)
        records, following = self._try("read", lambda: self._reader(partition).read(offset, limit))
        return Batch(records, _token(following))

    def start(self, partition: int) -> Position:
        """The position of the oldest record kept."""
        return _token(self._watermarks(partition)[0])

    def end(self, partition: int) -> Position:
        """The position after the newest record."""
        return _token(self._watermarks(partition)[1])

    def trim(self, older_than: timedelta) -> int:
        """Remove records written longer ago than this; how many. Kafka also does so by itself."""
        horizon = int((time.time() - older_than.total_seconds()) * 1000)
        removed, bounds = 0, []
        for partition in range(self._partitions):
            low, high = self._watermarks(partition)
            asked = [TopicPartition(self._topic, partition, horizon)]
            offsets_for_times = self._reader(partition).consumer.offsets_for_times
            (found,) = self._try("trim", partial(offsets_for_times, asked, self._timeout_s))
            until = found.offset if found.offset >= 0 else high
            if until > low:
                bounds.append(TopicPartition(self._topic, partition, until))
                removed += until - low
        if bounds:
            for future in self._admin.delete_records(bounds).values():
                self._try("trim", partial(future.result, self._timeout_s))
        return removed

    def close(self) -> None:
        """Let go of producer and consumers."""
        if self._producer is not None:
            self._producer.flush(self._timeout_s)
            self._producer = None
        for reader in self._consumers.values():
            reader.consumer.close()
        self._consumers = {}

    def _reader(self, partition: int) -> _Reader:
        if partition not in self._consumers:
            self._consumers[partition] = _Reader(self._common, self._topic, partition, self._timeout_s)
        return self._consumers[partition]

    def _watermarks(self, partition: int) -> tuple[int, int]:
        return self._try("read", lambda: self._reader(partition).watermarks())

    def _make_topic(self, retention: timedelta) -> None:
        known = self._known_partitions()
        if not known:
            topic = NewTopic(
                self._topic,
                num_partitions=self._partitions,
                config={"retention.ms": str(int(retention.total_seconds() * 1000))},
            )
            (future,) = self._admin.create_topics([topic]).values()
            try:
                future.result(self._timeout_s)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise self._error("open", error) from error
            known = self._known_partitions() or self._partitions
        if known != self._partitions:
            msg = (
                f"event log: topic {self._topic} has {known} partitions; "
                f"HEADRACE_LOG_PARTITIONS={self._partitions} does not fit: set it to {known}"
            )
            raise LogError(msg)

    def _known_partitions(self) -> int:
        metadata = self._try("open", lambda: self._admin.list_topics(timeout=self._timeout_s))
        found = metadata.topics.get(self._topic)
        return len(found.partitions) if found is not None else 0

    def _try(self, verb: str, call: Callable[[], _T]) -> _T:
        try:
            return _patiently(call, self._timeout_s)
        except KafkaException as error:
            raise self._error(verb, error) from error

    def _error(self, verb: str, why: object) -> LogError:
        text = why.args[0].str() if isinstance(why, KafkaException) else why
        msg = (
            f"event log on Kafka, topic {self._topic}: cannot {verb} ({text}); "
            f"is a broker up at HEADRACE_KAFKA_BOOTSTRAP={self._bootstrap}?"
        )
        return LogError(msg)


class _Reader:
    """One partition read by offset. Kafka fetches ahead in the background."""

    def __init__(self, common: dict[str, Any], topic: str, partition: int, timeout_s: float) -> None:
        self._place = (topic, partition)
        self._next = -1
        self._timeout_s = timeout_s
        self._lock = Lock()
        self.consumer: Any = Consumer(
            {
                **common,
                "group.id": "headrace-log",  # required, never used: positions are the reader's own
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # a position that was trimmed reads on from the oldest
                "fetch.wait.max.ms": 10,
            }
        )

    def watermarks(self) -> tuple[int, int]:
        low, high = self.consumer.get_watermark_offsets(TopicPartition(*self._place), timeout=self._timeout_s)
        return low, high

    def read(self, offset: int, limit: int) -> tuple[list[bytes], int]:
        with self._lock:
            if offset != self._next:
                self.consumer.assign([TopicPartition(*self._place, offset)])
                self._next = offset
            deadline = time.monotonic() + self._timeout_s
            messages = self._consume(limit, 0.0)
            if not messages and self.watermarks()[1] > offset:
                while not messages and time.monotonic() < deadline:
                    messages = self._consume(limit, 0.05)
            if messages:
                self._next = messages[-1].offset() + 1
            return [m.value() for m in messages], self._next

    def _consume(self, limit: int, wait_s: float) -> list[Any]:
        found = self.consumer.consume(limit, wait_s)
        for message in found:
            if (error := message.error()) is not None and error.code() not in _PASSING:
                raise KafkaException(error)
        return [m for m in found if m.error() is None]


def _patiently(call: Callable[[], _T], timeout_s: float) -> _T:
    return Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, KafkaException) and e.args[0].code() in _PASSING),
        stop=stop_after_delay(timeout_s),
        wait=wait_exponential_jitter(0.05, 1.0),
        reraise=True,
    )(call)


def _note(error: KafkaError) -> None:
    _logger.warning("kafka: %s", error.str())


def _token(offset: int) -> Position:
    return f"{offset:0{_WIDTH}d}"


def _offset(position: Position) -> int:
    if not position.isdigit():
        msg = f"event log: {position!r} is no position of a Kafka log"
        raise LogError(msg)
    return int(position)
