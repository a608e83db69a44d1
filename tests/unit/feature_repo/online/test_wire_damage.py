"""Damaged bytes of the online store, beside what protobuf's own parser makes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import StoreError
from feature_repo.group import DType
from feature_repo.online import decode_value
from feature_repo.online.encoding import encode_value

value_pb = pytest.importorskip("feast.protos.feast.types.Value_pb2")
message_pb = pytest.importorskip("google.protobuf.message")

INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TIMED = st.tuples(st.just(DType.TIMESTAMP), TIMES.map(lambda t: t.replace(microsecond=0)))
VALUES = st.one_of(
    st.tuples(st.just(DType.STRING), TEXT),
    st.tuples(st.just(DType.INT64), INTS),
    st.tuples(st.just(DType.FLOAT64), FLOATS),
    st.tuples(st.just(DType.BOOL), st.booleans()),
    st.tuples(st.just(DType.STRINGS), st.lists(TEXT, max_size=5)),
    st.tuples(st.just(DType.INT64S), st.lists(INTS, max_size=5)),
    st.tuples(st.just(DType.FLOAT64S), st.lists(FLOATS, max_size=5)),
    st.tuples(st.just(DType.FLOAT32S), st.lists(st.floats(width=32, allow_nan=False), max_size=5)),
)


def by_protobuf(raw: bytes) -> Any:
    """What protobuf reads; `ValueError` where it refuses."""
    message = value_pb.Value()
    try:
        message.ParseFromString(raw)
    except message_pb.DecodeError as error:
        raise ValueError from error
    field = message.WhichOneof("val")
    if field is None or field == "null_val":
        return None
    found = getattr(message, field)
    return list(found.val) if field.endswith("_list_val") else found


def decoded(raw: bytes) -> tuple[Any, str | None]:
    """The value, or why there is none."""
    try:
        return decode_value(raw), None
    except StoreError as error:
        return None, str(error)


@given(VALUES | TIMED, st.data())
def test_cut_bytes_are_an_error(typed: tuple[DType, Any], data: st.DataObject) -> None:
    dtype, value = typed
    raw = encode_value(dtype, value)
    cut = raw[: data.draw(st.integers(0, len(raw)))]
    found, refused = decoded(cut)
    if cut == raw:
        assert (found, refused) == (value, None)
    elif cut:
        assert refused is not None
        assert f"{len(cut)} bytes is cut or damaged" in refused or "no feature type" in refused
    else:
        assert (found, refused) == (None, None)


@given(VALUES)
def test_whole_bytes_are_what_protobuf_reads_in_them(typed: tuple[DType, Any]) -> None:
    raw = encode_value(*typed)
    assert decode_value(raw) == by_protobuf(raw)


@pytest.mark.parametrize("count", [0, 14, 15, 16, 17, 31, 32, 2046, 2047, 2048, 4095, 4096])
@pytest.mark.parametrize("dtype", [DType.FLOAT64S, DType.FLOAT32S, DType.INT64S, DType.STRINGS])
def test_lengths_of_one_two_and_three_bytes(dtype: DType, count: int) -> None:
    value: list[Any] = [f"{n:06}" if dtype is DType.STRINGS else n for n in range(count)]
    raw = encode_value(dtype, value)
    assert decode_value(raw) == value == by_protobuf(raw)
    for cut in {1, 4, 8} if count else set():
        assert decoded(raw[:-cut])[1] is not None


def test_numbers_that_are_no_whole_ones_are_damage() -> None:
    whole = encode_value(DType.FLOAT64S, [1.0])
    assert decoded(whole[:1] + b"\x09\x0a\x07" + whole[4:11])[1] is not None


@given(VALUES | TIMED, st.data())
def test_a_flipped_bit_is_an_error_or_a_value_never_a_crash(
    typed: tuple[DType, Any], data: st.DataObject
) -> None:
    raw = bytearray(encode_value(*typed))
    if not raw:
        return
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    found, refused = decoded(bytes(raw))
    if refused is not None:
        assert refused.startswith("online store: ")
        return
    # A tag that became another one of ours is read as that type; nothing else comes out.
    assert found is None or isinstance(found, str | bool | int | float | datetime | list)
    assert not isinstance(found, list) or len(found) <= len(raw)
