"""The online store on Redis: one pipeline per write, one per read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import redis

from feature_repo.errors import SettingsError, StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online.layout import PROJECT, ViewLayout, layout_of, redis_key
from feature_repo.online.store import EncodedRow, OnlineRow, encode_rows
from feature_repo.online.wire import decode_micros, encode_micros
from feature_repo.settings import Settings

MARKS_KEY = f"{PROJECT}:marks"
"""Redis hash of the marks."""
_CHUNK = 2000


_LENGTHS = tuple(b"%d\r\n" % n for n in range(1 << 13))


def _bulk(raw: bytes) -> bytes:
    """One argument of a command in Redis's protocol."""
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def _length(raw: bytes) -> bytes:
    return _LENGTHS[len(raw)] if len(raw) < len(_LENGTHS) else b"%d\r\n" % len(raw)


class _Commands:
    """A view's commands, packed by hand: redis-py's packing costs more than encoding the values."""

    def __init__(self, layout: ViewLayout) -> None:
        stamp = _bulk(layout.time_field)
        fields = [b"\r\n" + _bulk(field) + b"$" for field in layout.fields]
        self._fields = tuple(fields)
        self._stamp = b"\r\n" + stamp + b"$"
        self._hset = b"*%d\r\n$4\r\nHSET\r\n$" % (4 + 2 * len(fields))
        self._hget_tail = stamp

    def hget_time(self, key: bytes) -> bytes:
        return b"*3\r\n$4\r\nHGET\r\n" + _bulk(key) + self._hget_tail

    def hset(self, parts: list[bytes], key: bytes, stamp: bytes, raws: Sequence[bytes]) -> None:
        """Add the pieces of an HSET to a payload."""
        parts += (self._hset, _length(key), key, self._stamp, _length(stamp), stamp)
        before = len(parts)
        try:
            lengths = map(_LENGTHS.__getitem__, map(len, raws))
            parts += chain.from_iterable(zip(self._fields, lengths, raws, strict=True))
        except IndexError:  # a value longer than the table knows
            del parts[before:]
            parts += chain.from_iterable(zip(self._fields, map(_length, raws), raws, strict=True))
        parts.append(b"\r\n")


class RedisStore:
    """`OnlineStore` on one Redis.

    Args:
        url: ``redis://`` or ``rediss://``, password allowed.
        timeout_s: how long connecting and each reply may take.
    """

    def __init__(self, url: str, timeout_s: float = 2.0) -> None:
        parts = urlsplit(url)
        self._name = f"{parts.hostname}:{parts.port or 6379}"
        try:
            self._client: redis.Redis = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=None,
                decode_responses=False,
                protocol=2,
            )
        except ValueError as error:
            msg = f"HEADRACE_REDIS_URL: {error}; write e.g. redis://127.0.0.1:6379/0"
            raise SettingsError(msg) from error
        self._commands: dict[int, tuple[ViewLayout, _Commands]] = {}

    @classmethod
    def of(cls, settings: Settings) -> RedisStore:
        """The store the settings name."""
        return cls(settings.redis_url.get_secret_value(), settings.store_timeout_s)

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        """See `OnlineStore.write`. Check and write are two pipelines: each key needs one writer at a time."""
        return self.write_encoded(group, encode_rows(group, rows))

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        """See `OnlineStore.write_encoded`."""
        layout = layout_of(group)
        commands = self._commands_of(layout)
        written = 0
        with self._connection() as connection:
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                written += self._write_chunk(connection, layout, commands, chunk, check)
        return written

    @staticmethod
    def _write_chunk(
        connection: Any, layout: ViewLayout, commands: _Commands, rows: Sequence[EncodedRow], check: bool
    ) -> int:
        keys = [redis_key(layout.join_key, row.key) for row in rows]
        stored: Sequence[bytes | None] = [None] * len(rows)
        if check:
            stored = _exchange(connection, [commands.hget_time(key) for key in keys], len(keys))
        parts: list[bytes] = []
        written = 0
        for key, row, held in zip(keys, rows, stored, strict=True):
            if held is None or decode_micros(held) <= row.micros:
                commands.hset(parts, key, encode_micros(row.micros), row.raws)
                written += 1
        _exchange(connection, parts, written)
        return written

    def read(self, requests: Sequence[tuple[FeatureGroup, str]]) -> list[OnlineRow | None]:
        """See `OnlineStore.read`."""
        layouts = [layout_of(group) for group, _ in requests]
        with self._mapped():
            pipe: Any = self._client.pipeline(transaction=False)
            for layout, (_, key) in zip(layouts, requests, strict=True):
                pipe.execute_command(
                    "HMGET", redis_key(layout.join_key, key), *layout.fields, layout.time_field
                )
            answers: list[list[bytes | None]] = pipe.execute()
        found: list[OnlineRow | None] = []
        for layout, (_, key), raws in zip(layouts, requests, answers, strict=True):
            row = layout.decode(raws)
            found.append(None if row is None else OnlineRow(key, row[0], row[1]))
        return found

    def delete(self, group: FeatureGroup, keys: Iterable[str]) -> int:
        """See `OnlineStore.delete`. Other groups of the same entity keep their fields."""
        layout = layout_of(group)
        with self._mapped():
            pipe: Any = self._client.pipeline(transaction=False)
            for key in keys:
                pipe.execute_command(
                    "HDEL", redis_key(layout.join_key, key), layout.time_field, *layout.fields
                )
            return sum(1 for removed in pipe.execute() if removed)

    def put_marks(self, marks: Mapping[str, bytes]) -> None:
        """See `OnlineStore.put_marks`."""
        if marks:
            with self._mapped():
                self._client.hset(MARKS_KEY, mapping=dict(marks))

    def marks(self, prefix: str = "") -> dict[str, bytes]:
        """See `OnlineStore.marks`."""
        with self._mapped():
            held: Any = self._client.hgetall(MARKS_KEY)
        return {name.decode(): v for name, v in held.items() if name.decode().startswith(prefix)}

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._client.close()

    def _commands_of(self, layout: ViewLayout) -> _Commands:
        found = self._commands.get(id(layout))
        if found is None:
            found = self._commands[id(layout)] = (layout, _Commands(layout))
        return found[1]

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            msg = (
                f"online store: Redis at {self._name} failed ({type(error).__name__}: {error}); "
                "is it running, and is HEADRACE_REDIS_URL right?"
            )
            raise StoreError(msg) from error

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection for packed commands; one that failed is dropped, replies may be under way."""
        pool = self._client.connection_pool
        with self._mapped():
            connection = pool.get_connection()
            try:
                yield connection
            except BaseException:
                connection.disconnect()  # type: ignore[no-untyped-call]
                raise
            finally:
                pool.release(connection)


def _exchange(connection: Any, parts: Sequence[bytes], replies: int) -> list[Any]:
    """Send packed commands at once and read every reply; the first error reply is raised."""
    if not parts:
        return []
    connection.send_packed_command([b"".join(parts)])
    return [connection.read_response() for _ in range(replies)]
