"""The online store on Redis: one pipeline per write, one per read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis

from feature_repo.errors import StoreError
from feature_repo.group import FeatureGroup
from feature_repo.online.commands import RowCommands, bulk
from feature_repo.online.layout import PROJECT, ViewLayout, layout_of, redis_key
from feature_repo.online.redis_url import redis_options
from feature_repo.online.rows import EncodedRow, OnlineRow, encode_rows
from feature_repo.online.timestamps import decode_micros
from feature_repo.settings import Settings

MARKS_KEY = f"{PROJECT}:marks"
"""Redis hash of the marks."""
_CHUNK = 2000
_SHIFTED = "a reply was lost or duplicated on its way"


class RedisStore:
    """`OnlineStore` on one Redis.

    Args:
        url: ``redis://`` or ``rediss://``, password allowed.
        timeout_s: how long connecting and each reply may take.
    """

    def __init__(self, url: str, timeout_s: float = 2.0) -> None:
        options = redis_options(url)
        self._name = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=None,
            decode_responses=False,
            protocol=2,
        )

    @classmethod
    def of(cls, settings: Settings) -> RedisStore:
        """The store the settings name."""
        return cls(settings.redis_url.get_secret_value(), settings.store_timeout_s)

    def write(self, group: FeatureGroup, rows: Sequence[OnlineRow]) -> int:
        """See `OnlineStore.write`. Check and write are two pipelines: each key needs one writer at a time."""
        return self.write_encoded(group, encode_rows(group, rows))

    def write_encoded(self, group: FeatureGroup, rows: Sequence[EncodedRow], *, check: bool = True) -> int:
        """See `OnlineStore.write_encoded`."""
        commands = _commands_of(layout_of(group))
        written = 0
        with self._connection() as connection:
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                written += self._write_chunk(connection, commands, chunk, check)
        return written

    @staticmethod
    def _write_chunk(connection: Any, commands: RowCommands, rows: Sequence[EncodedRow], check: bool) -> int:
        if check:
            stored = _exchange(connection, commands.hget_times(rows), len(rows))
            rows = [
                row
                for row, held in zip(rows, stored, strict=True)
                if held is None or decode_micros(held) <= row.micros
            ]
        _exchange(connection, commands.hsets(rows), len(rows))
        return len(rows)

    def read(self, requests: Sequence[tuple[FeatureGroup, str]]) -> list[OnlineRow | None]:
        """See `OnlineStore.read`."""
        layouts = [layout_of(group) for group, _ in requests]
        with self._mapped():
            pipe: Any = self._client.pipeline(transaction=False)
            for layout, (_, key) in zip(layouts, requests, strict=True):
                pipe.execute_command(
                    "HMGET", redis_key(layout.join_key, key), *layout.fields, layout.time_field
                )
            pipe.echo(marker := os.urandom(8))
            answers: list[list[bytes | None]] = pipe.execute()
            self._check(answers.pop(), marker)
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

    def _check(self, answer: Any, marker: bytes) -> None:
        if answer != marker:
            self._client.connection_pool.disconnect()
            raise redis.ConnectionError(_SHIFTED)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            remedy = "is it running, and is HEADRACE_REDIS_URL right?"
            if isinstance(error, redis.ReadOnlyError):
                remedy = "point HEADRACE_REDIS_URL at the primary, or make this one primary"
            elif isinstance(error, redis.OutOfMemoryError):
                remedy = "raise its maxmemory"
            msg = f"online store: Redis at {self._name} failed ({type(error).__name__}: {error}); {remedy}"
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


@cache
def _commands_of(layout: ViewLayout) -> RowCommands:
    return RowCommands(layout)


def _exchange(connection: Any, payload: bytes, replies: int) -> list[Any]:
    """Send packed commands at once and read every reply; the first error reply is raised.

    The last reply has to be a marker of this exchange: else one was lost or doubled on the way, and the rest
    answers other commands.
    """
    if not replies:
        return []
    marker = os.urandom(8)
    connection.send_packed_command([payload, b"*2\r\n$4\r\nECHO\r\n", bulk(marker)])
    found = [connection.read_response() for _ in range(replies)]
    if connection.read_response() != marker:
        raise redis.ConnectionError(_SHIFTED)
    return found
