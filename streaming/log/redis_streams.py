"""The event log on Redis Streams: one stream per partition, entry ids as positions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_repo.errors import LogError
from feature_repo.online.redis_url import redis_options
from streaming.log.protocol import Batch, Damage, Keyed, PartlyWrittenError, Position, partition_of

FIELD = b"r"
TIMEOUT_S = 10.0
_WIDTH = 20
_MAX_SEQUENCE = (1 << 64) - 1


class RedisLog:
    """An `EventLog` on Redis Streams. Its durability is that Redis' configuration (``appendonly``).

    Args:
        url: ``redis://`` or, for TLS, ``rediss://``; may contain user and password.
        topic: name of this log.
        partitions: fixed when the log is first opened.
        timeout_s: how long to wait for an answer.

    Raises:
        SettingsError: the URL cannot be used.
    """

    def __init__(self, url: str, topic: str, partitions: int, timeout_s: float = TIMEOUT_S) -> None:
        self._topic = topic
        self._partitions = partitions
        self._keys = [f"headrace:log:{topic}:{n}" for n in range(partitions)]
        redis_options(url)
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(
                NoBackoff(), 1
            ),  # an idle connection may have been closed; the caller handles other errors
        )
        self._check_partitions()

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self._partitions

    def publish(self, records: Sequence[Keyed]) -> None:
        """Append a batch in one round trip; see `EventLog.publish`."""
        if not records:
            return
        written: int | None = None
        try:
            with self._mapped("write"):
                pipeline = self._redis.pipeline(transaction=False)
                command: Any = (
                    pipeline.execute_command
                )  # takes half the time of `xadd`, which checks its arguments
                for key, payload in records:
                    command("XADD", self._keys[partition_of(key, self._partitions)], "*", FIELD, payload)
                answers: Any = pipeline.execute(raise_on_error=False)
                failed = [answer for answer in answers if isinstance(answer, Exception)]
                written = len(answers) - len(failed)
                if failed:
                    raise failed[0]
        except LogError as error:
            if written == 0:
                raise
            raise PartlyWrittenError(error, written, len(records)) from error

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        """Read at most `limit` entries after a position."""
        with self._mapped("read"):
            entries: Any = self._redis.xrange(
                self._keys[partition], f"({_entry_id(position)}", "+", count=limit
            )
        if not entries:
            return Batch([], position)
        position = _token(entries[-1][0])
        try:
            return Batch([fields[FIELD] for _, fields in entries], position, (), [at for at, _ in entries])
        except KeyError:  # written by another producer
            ours = [(at, fields[FIELD]) for at, fields in entries if FIELD in fields]
            strange = (self._damage(partition, at, fields) for at, fields in entries if FIELD not in fields)
            return Batch([raw for _, raw in ours], position, tuple(strange), [at for at, _ in ours])

    def start(self, partition: int) -> Position:
        """Return the position just before the oldest entry."""
        with self._mapped("read"):
            entries: Any = self._redis.xrange(self._keys[partition], count=1)
        if not entries:
            return self.end(partition)
        time_ms, sequence = map(int, entries[0][0].split(b"-"))
        before = (time_ms, sequence - 1) if sequence else (time_ms - 1, _MAX_SEQUENCE)
        return _token(b"%d-%d" % before)

    def end(self, partition: int) -> Position:
        """Return the position of the newest entry ever added."""
        with self._mapped("read"):
            try:
                info: Any = self._redis.xinfo_stream(self._keys[partition])
            except redis.ResponseError as error:
                if "no such key" not in str(error):
                    raise
                return _token(b"0-0")
        return _token(info["last-generated-id"])

    def trim(self, older_than: timedelta) -> int:
        """Remove entries added longer ago than this, by the server's clock; return how many."""
        with self._mapped("trim"):
            now: Any = self._redis.time()
            oldest = max(0, int((now[0] - older_than.total_seconds()) * 1000))
            removed: Any = [self._redis.xtrim(k, minid=str(oldest), approximate=False) for k in self._keys]
        return sum(removed)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _damage(self, partition: int, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Damage:
        """Report another producer's entry; the raw bytes are its only value, or all fields as JSON."""
        source = f"{self._keys[partition]} {entry_id.decode()}"
        names = ", ".join(repr(name[:40].decode("utf-8", "backslashreplace")) for name in list(fields)[:5])
        reason = f"an entry with {names}; a record is the value of one field {FIELD.decode()!r}"
        if len(fields) == 1:
            return Damage(source, None, next(iter(fields.values())), reason)
        texts = {
            name.decode("utf-8", "backslashreplace"): value.decode("utf-8", "backslashreplace")
            for name, value in fields.items()
        }
        return Damage(source, None, json.dumps(texts, ensure_ascii=False).encode(), reason)

    def _check_partitions(self) -> None:
        with self._mapped("open"):
            name = f"headrace:log:{self._topic}:partitions"
            known: Any = self._redis.get(name)
            if known is None:  # read first, because a full or read-only Redis still answers reads
                self._redis.set(name, self._partitions, nx=True)
                known = self._redis.get(name)
        if int(known) != self._partitions:
            msg = (
                f"event log {self._topic} on Redis has {int(known)} partitions; "
                f"HEADRACE_LOG_PARTITIONS={self._partitions} does not fit: set it to {int(known)}"
            )
            raise LogError(msg)

    @contextmanager
    def _mapped(self, verb: str) -> Iterator[None]:
        try:
            yield
        except redis.AuthenticationError as error:
            msg = (
                f"event log on Redis: access denied ({error}); put user and password into HEADRACE_REDIS_URL"
            )
            raise LogError(msg) from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            msg = f"event log on Redis: cannot {verb} ({error}); is Redis up, and HEADRACE_REDIS_URL right?"
            raise LogError(msg) from error
        except redis.ReadOnlyError as error:
            msg = (
                f"event log on Redis: cannot {verb} ({error}); point HEADRACE_REDIS_URL at the primary, or "
                "make this one primary"
            )
            raise LogError(msg) from error
        except redis.OutOfMemoryError as error:
            msg = (
                f"event log on Redis: cannot {verb}, out of memory ({error}); raise maxmemory or trim the log"
            )
            raise LogError(msg) from error
        except redis.RedisError as error:
            msg = f"event log on Redis: cannot {verb} ({error})"
            raise LogError(msg) from error


def _token(entry_id: bytes) -> Position:
    time_ms, _, sequence = entry_id.partition(b"-")
    return f"{int(time_ms):0{_WIDTH}d}-{int(sequence):0{_WIDTH}d}"


def _entry_id(position: Position) -> str:
    time_ms, _, sequence = position.partition("-")
    if not (time_ms.isdigit() and sequence.isdigit()):
        msg = f"event log: {position!r} is not a position of a Redis log"
        raise LogError(msg)
    return f"{int(time_ms)}-{int(sequence)}"
