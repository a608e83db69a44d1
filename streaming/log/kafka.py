"""The event log on Kafka: an idempotent producer, offsets as positions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from feature_repo.errors import LogError
from streaming.log.kafka_reader import KafkaReader, offset_of, patiently, token
from streaming.log.protocol import Batch, Keyed, PartlyWrittenError, Position, partition_of

TIMEOUT_S = 15.0
_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


class KafkaLog:
    """An `EventLog` on a Kafka topic, created at first use with the given partitions and retention.

    A batch is acknowledged once it is written to all in-sync replicas.

    Args:
        bootstrap: servers, ``host:port,…``.
        topic: name of the topic.
        partitions: fixed when the topic is created.
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
        self._consumers: dict[int, KafkaReader] = {}
        self._lock = Lock()
        self._make_topic(retention)

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self._partitions

    def publish(self, records: Sequence[Keyed]) -> None:
        """Append a batch and return once all in-sync replicas have it. See `EventLog.publish`."""
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
                self._producer = None  # a producer that gave up on a record no longer guarantees order
                producer.purge()
        if failed or left:
            why = failed[0] if failed else "no answer in time"
            error = self._error("write", f"{len(failed) + left} of {len(records)} records refused, {why}")
            # Records that timed out may still be in Kafka.
            raise PartlyWrittenError(error, None, len(records))

    def _produce(self, producer: Any, key: str, payload: bytes, delivered: Callable[..., None]) -> None:
        partition = partition_of(key, self._partitions)
        while True:
            try:
                producer.produce(self._topic, payload, key, partition, on_delivery=delivered)
            except BufferError:  # the queue is full: let the broker drain it
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
        """Read at most `limit` records after a position; wait only for records known to be in the broker."""
        offset = offset_of(position)
        return self._try("read", lambda: self._reader(partition).read(offset, limit))

    def start(self, partition: int) -> Position:
        """Return the position of the oldest record."""
        return token(self._watermarks(partition)[0])

    def end(self, partition: int) -> Position:
        """Return the position after the newest record."""
        return token(self._watermarks(partition)[1])

    def trim(self, older_than: timedelta) -> int:
        """Remove records written longer ago than this; return how many. Kafka also does so by itself."""
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
        """Close producer and consumers."""
        if self._producer is not None:
            self._producer.flush(self._timeout_s)
            self._producer = None
        for reader in self._consumers.values():
            reader.consumer.close()
        self._consumers = {}

    def _reader(self, partition: int) -> KafkaReader:
        if partition not in self._consumers:
            self._consumers[partition] = KafkaReader(self._common, self._topic, partition, self._timeout_s)
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
            return patiently(call, self._timeout_s)
        except KafkaException as error:
            raise self._error(verb, error) from error

    def _error(self, verb: str, why: object) -> LogError:
        text = why.args[0].str() if isinstance(why, KafkaException) else why
        msg = (
            f"event log on Kafka, topic {self._topic}: cannot {verb} ({text}); "
            f"is a broker up at HEADRACE_KAFKA_BOOTSTRAP={self._bootstrap}?"
        )
        return LogError(msg)


def _note(error: KafkaError) -> None:
    _logger.warning("kafka: %s", error.str())
