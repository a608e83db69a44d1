"""The hand-written encoder and decoder against protobuf itself."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import StoreError
from feature_repo.group import DType
from feature_repo.online.decoding import decode_value
from feature_repo.online.encoding import encode_value, seconds_of, varint
from feature_repo.online.timestamps import decode_micros, decode_time, encode_time

value_pb = pytest.importorskip("feast.protos.feast.types.Value_pb2")
timestamp_pb = pytest.importorskip("google.protobuf.timestamp_pb2")

FIELDS = {
    DType.STRING: "string_val",
    DType.INT64: "int64_val",
    DType.FLOAT64: "double_val",
    DType.BOOL: "bool_val",
    DType.TIMESTAMP: "unix_timestamp_val",
    DType.STRINGS: "string_list_val",
    DType.INT64S: "int64_list_val",
    DType.FLOAT64S: "double_list_val",
    DType.FLOAT32S: "float_list_val",
}
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
VALUES: dict[DType, st.SearchStrategy[Any]] = {
    DType.STRING: TEXT,
    DType.INT64: INT64,
    DType.FLOAT64: st.floats(allow_nan=False),
    DType.BOOL: st.booleans(),
    DType.TIMESTAMP: TIMES,
    DType.STRINGS: st.lists(TEXT),
    DType.INT64S: st.lists(INT64),
    DType.FLOAT64S: st.lists(st.floats(allow_nan=False)),
    DType.FLOAT32S: st.lists(st.floats(width=32, allow_nan=False)),
}
TYPED = st.sampled_from(list(DType)).flatmap(lambda t: st.tuples(st.just(t), VALUES[t]))


def by_protobuf(dtype: DType, value: Any) -> Any:
    field = FIELDS[dtype]
    if field.endswith("_list_val"):
        message = value_pb.Value()
        getattr(message, field).SetInParent()
        getattr(message, field).val.extend(value)
        return message
    return value_pb.Value(**{field: seconds_of(value) if dtype is DType.TIMESTAMP else value})


def test_every_type_is_covered() -> None:
    assert set(FIELDS) == set(VALUES) == set(DType)


@given(TYPED)
def test_encodes_the_bytes_protobuf_encodes(typed: tuple[DType, Any]) -> None:
    dtype, value = typed
    assert encode_value(dtype, value) == by_protobuf(dtype, value).SerializeToString()


@given(TYPED)
def test_decodes_what_protobuf_encodes(typed: tuple[DType, Any]) -> None:
    dtype, value = typed
    expected = value.replace(microsecond=0) if dtype is DType.TIMESTAMP else value
    assert decode_value(by_protobuf(dtype, value).SerializeToString()) == expected


@pytest.mark.parametrize("dtype", list(DType))
def test_none_is_the_empty_message(dtype: DType) -> None:
    assert encode_value(dtype, None) == value_pb.Value().SerializeToString() == b""
    assert decode_value(b"") is None
    assert decode_value(None) is None


def test_decodes_the_types_feast_may_choose_itself() -> None:
    assert decode_value(value_pb.Value(int32_val=-7).SerializeToString()) == -7
    assert decode_value(value_pb.Value(float_val=0.5).SerializeToString()) == 0.5
    ints = value_pb.Value(int32_list_val=value_pb.Int32List(val=[-1, 300]))
    assert decode_value(ints.SerializeToString()) == [-1, 300]
    assert decode_value(value_pb.Value(null_val=value_pb.NULL).SerializeToString()) is None


def test_nan_survives() -> None:
    assert math.isnan(decode_value(encode_value(DType.FLOAT64, math.nan)))


def test_an_unknown_tag_says_so() -> None:
    with pytest.raises(StoreError, match="tag 0xfa is of no feature type"):
        decode_value(value_pb.Value(json_val="{}").SerializeToString().replace(b"\x82\x02", b"\xfa\x02", 1))


def test_a_cut_double_says_what_to_do() -> None:
    with pytest.raises(StoreError, match="write the row again"):
        decode_value(b"\x29" + struct.pack("<f", 1.0))


@given(TIMES)
def test_event_times_are_protobuf_timestamps(time: datetime) -> None:
    stamp = timestamp_pb.Timestamp()
    stamp.FromDatetime(time)
    assert encode_time(time) == stamp.SerializeToString()
    assert decode_time(stamp.SerializeToString()) == time
    assert decode_micros(encode_time(time)) == (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


@given(st.integers(0, 2**63 - 1))
def test_varint_by_its_definition(number: int) -> None:
    raw = varint(number)
    assert sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(raw)) == number
    assert [byte >= 0x80 for byte in raw] == [True] * (len(raw) - 1) + [False]
