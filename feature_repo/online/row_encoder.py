"""Encode the rows of a stream group straight into the bytes that a Redis HSET takes.

Encoding bounds the stream, so a group's encoder is one function generated from its features: no mapping of
values and no call per feature. `ViewLayout.encode` and `RowCommands.pairs` give the same bytes three times
slower; a test compares the two for every stream group.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from feature_repo.group import DType, Entity, FeatureGroup
from feature_repo.groups import stream_groups
from feature_repo.memory import Memory
from feature_repo.online.commands import LENGTHS, pair_head
from feature_repo.online.encoding import CHUNKS, ENCODERS, LOW, VARINTS, encode_int64, varint
from feature_repo.online.layout import layout_of
from feature_repo.online.rows import EncodedRow
from feature_repo.online.timestamps import encode_micros

_LIST = 256
_PACKED_BYTES = 1 << 11
_SECOND_US = 1_000_000
_END = b"\r\n"
_ABSENT = b"0\r\n"


def _sized(raw: bytes) -> bytes:
    """A value behind its length."""
    return b"%d\r\n%b" % (len(raw), raw)


def _list_heads(tag: bytes, width: int, count: int) -> list[bytes]:
    """What precedes the packed numbers of a list, by how many elements of `width` bytes it has."""
    heads = [_sized(tag + b"\x00")]
    for n in range(1, count):
        inner = b"\x0a" + varint(n * width)
        before = tag + varint(len(inner) + n * width) + inner
        heads.append(b"%d\r\n%b" % (len(before) + n * width, before))
    return heads


def _string_heads(count: int) -> list[bytes]:
    """What precedes the elements of a list of strings, by their total length in bytes."""
    return [b"%d\r\n\x62%b" % (1 + len(varint(n)) + n, varint(n)) for n in range(count)]


def _upper_bits(number: int) -> bytes:
    """All but the lowest 14 bits of the varint of a number, as epoch milliseconds are until 2109.

    Raises:
        IndexError: the number has no upper bits, too many, or a sign.
    """
    if number <= 0:
        raise IndexError(number)
    return VARINTS[number] if number < len(VARINTS) else LOW[number & 0x3FFF] + VARINTS[number >> 14]


_SHARED: dict[str, Any] = {
    "join": b"".join,
    "chunk": CHUNKS.__getitem__,
    "strings": _string_heads(len(LENGTHS) - 8),
    "doubles": _list_heads(b"\x7a", 8, _LIST),
    "pack": tuple(struct.Struct(f"<{n}d").pack for n in range(_LIST)),
    "double": struct.Struct("<d").pack,
    "packed": _list_heads(b"\x72", 1, _PACKED_BYTES),
    "low": LOW,
    "upper": Memory(_upper_bits).__getitem__,
    "second": Memory[int, bytes](lambda seconds: _sized(b"\x40" + varint(seconds))).__getitem__,
}
"""Names that generated code uses besides the heads of the group's fields."""


class RowEncoder:
    """Encodes the states of one stream group as rows.

    Args:
        group: has a `fold`.
    """

    def __init__(self, group: FeatureGroup) -> None:
        assert group.fold is not None, group.name
        self.group = group
        self._row = group.fold.row
        self._pairs = _compile(group)
        self._nothing = layout_of(group).encode({})

    def without_features(self, key: str, micros: int) -> EncodedRow:
        """A row of `key` that holds no feature."""
        return EncodedRow(key, micros, self._nothing)

    def encode(self, key: str, micros: int, state: Any, rules: Any) -> EncodedRow:
        """The row of `key`.

        Args:
            micros: event time, microseconds since 1970.
            state, rules: what the fold's `row` takes.
        """
        values = self._row(state, rules)
        try:
            return EncodedRow(key, micros, (), self._pairs(encode_micros(micros), values))
        except (IndexError, TypeError):  # beyond the tables, or a list that is None
            return EncodedRow(key, micros, layout_of(self.group).encode(self.group.named(values)))


@cache
def encoders_of(entity: Entity) -> tuple[RowEncoder, ...]:
    """Encoders of the stream groups of an entity, in the order of `stream_groups`."""
    return tuple(map(RowEncoder, stream_groups(entity).values()))


def _compile(group: FeatureGroup) -> Callable[[bytes, tuple[Any, ...]], bytes]:
    """Generate the function from an encoded event time and values to the pairs of an HSET."""
    layout = layout_of(group)
    names = {**_SHARED, "lengths": LENGTHS, "stamp_head": pair_head(layout.time_field), "end": _END}
    heads = [_END + pair_head(field) for field in layout.fields]
    terms = ", ".join(_terms(group, heads, names))
    values = ", ".join(f"v{i}" for i in range(len(heads)))
    source = (
        f"def pairs(stamp, values):\n"
        f"    {values}, = values\n"
        f"    return join((stamp_head, lengths[len(stamp)], stamp, {terms}, end))\n"
    )
    exec(source, names)
    pairs: Callable[[bytes, tuple[Any, ...]], bytes] = names["pairs"]
    return pairs


def _terms(group: FeatureGroup, heads: list[bytes], names: dict[str, Any]) -> Iterator[str]:
    """The expressions that are joined, feature by feature; neighbouring integers share one look-up."""
    integers: list[int] = []
    for i, feature in enumerate(group.features):
        if feature.dtype is DType.INT64:
            integers.append(i)
            continue
        if integers:
            yield _integers(integers, heads, names)
            integers = []
        yield _term(i, feature.dtype, heads[i], names)
    if integers:
        yield _integers(integers, heads, names)


def _integers(run: list[int], heads: list[bytes], names: dict[str, Any]) -> str:
    """One look-up for a run of integer features: counts of sessions are small and repeat."""

    def make(values: tuple[int | None, ...]) -> bytes:
        raws = [b"" if value is None else encode_int64(value) for value in values]
        return b"".join([heads[i] + _sized(raw) for i, raw in zip(run, raws, strict=True)])

    names[f"integers{run[0]}"] = Memory(make).__getitem__
    return f"integers{run[0]}(({', '.join(f'v{i}' for i in run)},))"


def _term(i: int, dtype: DType, head: bytes, names: dict[str, Any]) -> str:
    names[f"head{i}"], names[f"absent{i}"] = head, head + _ABSENT
    match dtype:
        case DType.STRINGS:
            return f"head{i}, strings[len(b := join(map(chunk, v{i})))], b"
        case DType.FLOAT64S:
            return f"head{i}, doubles[n := len(v{i})], pack[n](*v{i})"
        case DType.INT64S:
            return f"head{i}, packed[len(b := join([low[n & 16383] + upper(n >> 14) for n in v{i}]))], b"
        case DType.FLOAT64:
            names[f"head{i}"] = head + b"9\r\n\x29"
            return f"absent{i} if v{i} is None else head{i} + double(v{i})"
        case DType.TIMESTAMP:
            return f"absent{i} if v{i} is None else head{i} + second(v{i} // {_SECOND_US})"
        case _:
            names[f"value{i}"] = ENCODERS[dtype]
            full = f"head{i} + lengths[len(b := value{i}(v{i}))] + b"
            return f"absent{i} if v{i} is None else {full}"
