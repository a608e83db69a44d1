"""Rows and commands in Redis's protocol, packed by hand: redis-py's packing costs more than all the rest.

What a row brings to an HSET is pairs of bulk strings: the event time's field and value, then those of each
feature in the group's order. Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from feature_repo.online.layout import PROJECT, ViewLayout, entity_key_head
from feature_repo.online.rows import EncodedRow
from feature_repo.online.timestamps import encode_micros

LENGTHS = tuple(b"%d\r\n" % n for n in range(1 << 13))
"""The length line of a bulk string, without its ``$``."""
KEY_TAIL = PROJECT.encode() + b"\r\n"
"""The bytes after the text of a command's key."""


def bulk(raw: bytes) -> bytes:
    """One argument of a command."""
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def pair_head(field: bytes) -> bytes:
    """The bytes before the length line of a field's value."""
    return bulk(field) + b"$"


class KeyHeads(dict[int, bytes]):
    """The bytes before the text of a command's key, by the length of that text."""

    def __init__(self, command: bytes, join_key: str) -> None:
        super().__init__()
        self._command = command
        self._join_key = join_key

    def __missing__(self, length: int) -> bytes:
        head = entity_key_head(self._join_key, length)
        whole = len(head) + length + len(PROJECT)
        made = self[length] = b"%b$%d\r\n%b" % (self._command, whole, head)
        return made


class RowCommands:
    """The commands that write one view's rows."""

    def __init__(self, layout: ViewLayout) -> None:
        self._stamp = pair_head(layout.time_field)
        self._fields = tuple(b"\r\n" + pair_head(field) for field in layout.fields)
        arguments = 2 + 2 * (1 + len(layout.fields))
        self._hset = KeyHeads(b"*%d\r\n$4\r\nHSET\r\n" % arguments, layout.join_key)
        self._hget = KeyHeads(b"*3\r\n$4\r\nHGET\r\n", layout.join_key)
        self._hget_tail = KEY_TAIL + bulk(layout.time_field)

    def hget_times(self, rows: Sequence[EncodedRow]) -> bytes:
        """HGET of the stored event time of each row."""
        head, tail = self._hget, self._hget_tail
        keys = [row.key.encode() for row in rows]
        return b"".join([part for key in keys for part in (head[len(key)], key, tail)])

    def hsets(self, rows: Sequence[EncodedRow]) -> bytes:
        """HSET of each row."""
        head = self._hset
        parts: list[bytes] = []
        for row in rows:
            key = row.key.encode()
            parts += (head[len(key)], key, KEY_TAIL, row.pairs or self.pairs(row.micros, row.raws))
        return b"".join(parts)

    def pairs(self, micros: int, raws: Sequence[bytes]) -> bytes:
        """The event time and the features of a row, each with its field."""
        stamp = encode_micros(micros)
        try:
            lengths = [LENGTHS[len(raw)] for raw in raws]
        except IndexError:  # a value longer than the table knows
            lengths = [b"%d\r\n" % len(raw) for raw in raws]
        pairs = chain.from_iterable(zip(self._fields, lengths, raws, strict=True))
        return b"".join((self._stamp, LENGTHS[len(stamp)], stamp, *pairs, b"\r\n"))
