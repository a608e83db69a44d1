"""The decoder of the protobuf `feast.types.Value`: reads every scalar and list Feast writes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from feature_repo.clock import EPOCH
from feature_repo.errors import StoreError

_MORE = 0x80
_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """Read the varint at `at`; return it and where it ends."""
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


def signed(number: int) -> int:
    """A 64-bit two's complement as the integer it is."""
    return number - (1 << 64) if number >> 63 else number


def _body(raw: bytes, at: int) -> tuple[int, int]:
    """Return start and end of a length-delimited field whose length is at `at`."""
    length = raw[at]
    if length < _MORE:
        at += 1
    elif raw[at + 1] < _MORE:  # most lengths have one byte or two, and a call costs more than the reading
        length = length & 0x7F | raw[at + 1] << 7
        at += 2
    else:
        length, at = read_varint(raw, at)
    end = at + length
    if end > len(raw):
        msg = f"{end - len(raw)} bytes are missing"
        raise IndexError(msg)
    return at, end


def _packed_body(raw: bytes, at: int) -> tuple[int, int]:
    start, end = _body(raw, at)
    return (start, end) if start == end else _body(raw, start + 1)


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


@lru_cache(maxsize=1024)
def _many(kind: str, size: int) -> struct.Struct:
    """So many bytes of little-endian numbers of a kind."""
    each = struct.calcsize(kind)
    if size % each:
        msg = f"{size} bytes are no whole numbers of {each}"
        raise IndexError(msg)
    return struct.Struct(f"<{size // each}{kind}")


def _to_strings(raw: bytes, at: int) -> list[str]:
    at, end = _body(raw, at)
    return list(_Strings.FromString(raw[at:end]).val)


def _to_ints(raw: bytes, at: int) -> list[int]:
    at, end = _body(raw, at)
    return list(_Ints.FromString(raw[at:end]).val)


def _to_doubles(raw: bytes, at: int) -> list[float]:
    start, end = _packed_body(raw, at)
    return list(_many("d", end - start).unpack_from(raw, start))


def _to_floats(raw: bytes, at: int) -> list[float]:
    start, end = _packed_body(raw, at)
    return list(_many("f", end - start).unpack_from(raw, start))


def _to_string(raw: bytes, at: int) -> str:
    start, end = _body(raw, at)
    return raw[start:end].decode()


def _to_int(raw: bytes, at: int) -> int:
    low = raw[at]
    if low < _MORE:
        return low
    if raw[at + 1] < _MORE:
        return low & 0x7F | raw[at + 1] << 7
    return signed(read_varint(raw, at)[0])


def _to_time(raw: bytes, at: int) -> datetime:
    return EPOCH + timedelta(seconds=_to_int(raw, at))


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
