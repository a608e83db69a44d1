"""Feast's values on the wire: a minimal encoder and decoder of the protobuf `feast.types.Value`.

Feast's own encoding is what makes its writes slow (25,000 rows/s where Redis takes 150,000), and importing it
takes 5 s. Only what feature groups may hold is encoded; the decoder reads every scalar and list Feast writes.
`None` is the empty message, as Feast writes it. Wire format:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from feature_repo.errors import StoreError
from feature_repo.group import DType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_MASK = (1 << 64) - 1
_SMALL, _MIDDLE, _LARGE = 1 << 14, 1 << 28, 1 << 42
_MORE = 0x80
_SECONDS_TAG, _NANOS_TAG = 0x08, 0x10
_CACHED_TEXTS = 1 << 16
_CACHED_TEXT_LENGTH = 64
_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= _MASK
    while number >= _MORE:
        out.append(number & 0x7F | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


VARINTS = tuple(_varint(n) for n in range(_SMALL))
LOW = tuple(bytes((n & 0x7F | _MORE, n >> 7 | _MORE)) for n in range(_SMALL))
INTS = tuple(b"\x20" + v for v in VARINTS)
_TRUE, _FALSE = b"\x38\x01", b"\x38\x00"


def varint(number: int) -> bytes:
    """Base-128 varint of a 64-bit integer; negative ones as two's complement, in ten bytes.

    Times in ms and ns take three table look-ups: 14 bits, 14 bits, the rest.
    """
    if 0 <= number < _SMALL:
        return VARINTS[number]
    if 0 < number < _MIDDLE:
        return LOW[number & 0x3FFF] + VARINTS[number >> 14]
    if 0 < number < _LARGE:
        return LOW[number & 0x3FFF] + LOW[number >> 14 & 0x3FFF] + VARINTS[number >> 28]
    return _varint(number)


def seconds_of(time: datetime) -> int:
    """Whole seconds since 1970, rounded down: Feast's timestamps hold no fractions."""
    return (time - _EPOCH) // _SECOND


# Encoders, by type


def _string(value: str) -> bytes:
    raw = value.encode()
    return b"\x12" + varint(len(raw)) + raw


def encode_int64(value: int) -> bytes:
    return INTS[value] if 0 <= value < _SMALL else b"\x20" + varint(int(value))


def _float64(value: float) -> bytes:
    return b"\x29" + _DOUBLE.pack(value)


def _bool(value: bool) -> bytes:
    return _TRUE if value else _FALSE


def _timestamp(value: datetime) -> bytes:
    return b"\x40" + varint(seconds_of(value))


class _Chunks(dict[str, bytes]):
    """Length-prefixed list elements by text; ids and attribute values repeat, so a bounded memory pays."""

    def __missing__(self, text: str) -> bytes:
        raw = text.encode()
        chunk = b"\x0a" + varint(len(raw)) + raw
        if len(raw) <= _CACHED_TEXT_LENGTH:
            if len(self) >= _CACHED_TEXTS:
                self.clear()
            self[text] = chunk
        return chunk


_chunk = _Chunks().__getitem__


def encode_strings(value: Sequence[str]) -> bytes:
    body = b"".join(map(_chunk, value))
    return b"\x62" + varint(len(body)) + body


def _packed(tag: bytes, body: bytes) -> bytes:
    """A list message: the packed elements are its field 1; empty lists have no field at all."""
    if not body:
        return tag + b"\x00"
    inner = b"\x0a" + varint(len(body)) + body
    return tag + varint(len(inner)) + inner


def _int64s(value: Sequence[int]) -> bytes:
    return _packed(b"\x72", b"".join([varint(n) for n in value]))


def _float64s(value: Sequence[float]) -> bytes:
    return _packed(b"\x7a", struct.pack(f"<{len(value)}d", *value))


def _float32s(value: Sequence[float]) -> bytes:
    return _packed(b"\x82\x01", struct.pack(f"<{len(value)}f", *value))


ENCODERS: dict[DType, Callable[[Any], bytes]] = {
    DType.STRING: _string,
    DType.INT64: encode_int64,
    DType.FLOAT64: _float64,
    DType.BOOL: _bool,
    DType.TIMESTAMP: _timestamp,
    DType.STRINGS: encode_strings,
    DType.INT64S: _int64s,
    DType.FLOAT64S: _float64s,
    DType.FLOAT32S: _float32s,
}
"""Bytes of a present value of each type; `encode_value` also takes `None`."""


def encode_value(dtype: DType, value: Any) -> bytes:
    """Bytes of one feature value as Feast serializes it; `None` is no bytes at all."""
    return b"" if value is None else ENCODERS[dtype](value)


# Decoding, by the tag the bytes begin with


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    byte = raw[at]
    if byte < _MORE:
        return byte, at + 1
    number, shift, at = byte & 0x7F, 7, at + 1
    while True:
        byte = raw[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < _MORE:
            return number, at
        shift += 7


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _body(raw: bytes, at: int) -> tuple[int, int]:
    """Start and end of a length-delimited field whose length stands at `at`."""
    length, at = _read_varint(raw, at)
    return at, at + length


def _packed_body(raw: bytes, at: int) -> bytes:
    start, end = _body(raw, at)
    if start == end:
        return b""
    start, end = _body(raw, start + 1)
    return raw[start:end]


def _list_type(name: str, kind: int) -> Any:
    """A message with one repeated field: protobuf's C parser reads long lists in a quarter of the time."""
    file = descriptor_pb2.FileDescriptorProto(name=f"headrace/{name}.proto", syntax="proto3")
    file.message_type.add(name=name).field.add(
        name="val", number=1, label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED, type=kind
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


_Strings = _list_type("HeadraceStrings", descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
_Ints = _list_type("HeadraceInts", descriptor_pb2.FieldDescriptorProto.TYPE_INT64)


def _to_strings(raw: bytes, at: int) -> list[str]:
    at, end = _body(raw, at)
    return list(_Strings.FromString(raw[at:end]).val)


def _to_ints(raw: bytes, at: int) -> list[int]:
    at, end = _body(raw, at)
    return list(_Ints.FromString(raw[at:end]).val)


def _to_doubles(raw: bytes, at: int) -> list[float]:
    body = _packed_body(raw, at)
    return list(struct.unpack(f"<{len(body) // 8}d", body))


def _to_floats(raw: bytes, at: int) -> list[float]:
    body = _packed_body(raw, at)
    return list(struct.unpack(f"<{len(body) // 4}f", body))


def _to_string(raw: bytes, at: int) -> str:
    start, end = _body(raw, at)
    return raw[start:end].decode()


def _to_int(raw: bytes, at: int) -> int:
    if raw[at] < _MORE:
        return raw[at]
    return _signed(_read_varint(raw, at)[0])


def _to_time(raw: bytes, at: int) -> datetime:
    return _EPOCH + _SECOND * _to_int(raw, at)


_DECODERS: dict[int, Callable[[bytes, int], Any]] = {
    0x12: _to_string,
    0x18: _to_int,
    0x20: _to_int,
    0x29: lambda raw, at: _DOUBLE.unpack_from(raw, at)[0],
    0x35: lambda raw, at: _FLOAT.unpack_from(raw, at)[0],
    0x38: lambda raw, at: bool(raw[at]),
    0x40: _to_time,
    0x62: _to_strings,
    0x6A: _to_ints,
    0x72: _to_ints,
    0x7A: _to_doubles,
}
_FLOAT_LIST, _NULL = b"\x82\x01", b"\x98\x01"


def decode_value(raw: bytes | None) -> Any:
    """The value Feast's bytes hold; `None` for an absent field or the empty message.

    Raises:
        StoreError: the bytes are no value of a type that feature groups may have.
    """
    if not raw:
        return None
    try:
        decoder = _DECODERS.get(raw[0])
        if decoder is not None:
            return decoder(raw, 1)
        if raw[:2] == _FLOAT_LIST:
            return _to_floats(raw, 2)
        if raw[:2] == _NULL:
            return None
    except _DAMAGE as error:
        raise _damaged(raw, error) from error
    msg = f"online store: value tag 0x{raw[0]:02x} is of no feature type; was it written by another Feast?"
    raise StoreError(msg)


def decode_values(names: Sequence[str], raws: Sequence[bytes | None]) -> dict[str, Any]:
    """`decode_value` of each name's bytes: one loop for a whole row, since calls cost more than the decoding.

    Raises:
        StoreError: as `decode_value`.
    """
    values: dict[str, Any] = {}
    find = _DECODERS.get
    raw: bytes | None = b""
    try:
        for name, raw in zip(names, raws, strict=False):
            if not raw:
                values[name] = None
            elif (decoder := find(raw[0])) is not None:
                values[name] = decoder(raw, 1)
            else:
                values[name] = decode_value(raw)
    except _DAMAGE as error:
        raise _damaged(raw or b"", error) from error
    return values


_DAMAGE = (IndexError, struct.error, UnicodeDecodeError, OverflowError, DecodeError)


def _damaged(raw: bytes, error: Exception) -> StoreError:
    return StoreError(
        f"online store: a value of {len(raw)} bytes is cut or damaged ({error}); write the row again"
    )


# Event times


def micros_of(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def encode_time(time: datetime) -> bytes:
    """`google.protobuf.Timestamp` of a UTC time: what Feast keeps beside the features of a row."""
    return encode_micros(micros_of(time))


def encode_micros(micros: int) -> bytes:
    """`google.protobuf.Timestamp` of microseconds since 1970."""
    seconds, rest = divmod(micros, 1_000_000)
    out = b"\x08" + varint(seconds) if seconds else b""
    return out + b"\x10" + varint(rest * 1000) if rest else out


def decode_micros(raw: bytes) -> int:
    """Microseconds since 1970 of a `google.protobuf.Timestamp`."""
    seconds = nanos = at = 0
    while at < len(raw):
        tag = raw[at]
        number, at = _read_varint(raw, at + 1)
        if tag == _SECONDS_TAG:
            seconds = _signed(number)
        elif tag == _NANOS_TAG:
            nanos = number
    return seconds * 1_000_000 + nanos // 1000


def decode_time(raw: bytes) -> datetime:
    """The UTC time of a `google.protobuf.Timestamp`."""
    return time_of(decode_micros(raw))


def time_of(micros: int) -> datetime:
    """The UTC time of microseconds since 1970."""
    return _EPOCH + _MICROSECOND * micros
