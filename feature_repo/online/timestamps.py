"""Event times as Feast keeps them beside the features: `google.protobuf.Timestamp`."""

from __future__ import annotations

from datetime import datetime, timedelta

from feature_repo.clock import micros_of, time_of
from feature_repo.memory import Memory
from feature_repo.online.decoding import read_varint, signed
from feature_repo.online.encoding import varint

_MICROSECOND = timedelta(microseconds=1)
_SECOND_US = 1_000_000
_SECONDS_TAG, _NANOS_TAG = 0x08, 0x10


_SECONDS: Memory[int, bytes] = Memory(lambda seconds: b"\x08" + varint(seconds) if seconds else b"")


def encode_time(time: datetime) -> bytes:
    """`google.protobuf.Timestamp` of a UTC time: what Feast keeps beside the features of a row."""
    return encode_micros(micros_of(time))


def encode_micros(micros: int) -> bytes:
    """`google.protobuf.Timestamp` of microseconds since 1970."""
    seconds, rest = divmod(micros, _SECOND_US)
    out = _SECONDS[seconds]
    return out + b"\x10" + varint(rest * 1000) if rest else out


def decode_micros(raw: bytes) -> int:
    """Microseconds since 1970 of a `google.protobuf.Timestamp`."""
    seconds = nanos = at = 0
    while at < len(raw):
        tag = raw[at]
        number, at = read_varint(raw, at + 1)
        if tag == _SECONDS_TAG:
            seconds = signed(number)
        elif tag == _NANOS_TAG:
            nanos = number
    return seconds * _SECOND_US + nanos // 1000


def decode_time(raw: bytes) -> datetime:
    """The UTC time of a `google.protobuf.Timestamp`."""
    return time_of(decode_micros(raw))
