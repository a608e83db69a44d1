"""The record frame: a round trip, cuts, flipped bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.log.segment_frames import BAD_CHECKSUM, CUT_SHORT, HEADER_BYTES, frame, scan

PAYLOADS = st.lists(st.binary(max_size=60), min_size=1, max_size=12)


@settings(deadline=None)
@given(PAYLOADS)
def test_frames_come_back_in_order(payloads: list[bytes]) -> None:
    buffer = frame(payloads)
    found = scan(buffer, 1000)
    assert (found.records, found.damaged, found.end) == (payloads, [], len(buffer))


@settings(deadline=None)
@given(PAYLOADS, st.integers(1, 12))
def test_a_limit_ends_on_a_frame(payloads: list[bytes], limit: int) -> None:
    found = scan(frame(payloads), limit)
    assert found.records == payloads[:limit]
    assert found.end == len(frame(payloads[:limit]))


@settings(deadline=None)
@given(st.lists(st.text("abc{}:", max_size=40).map(str.encode), min_size=1, max_size=8), st.data())
def test_a_buffer_cut_anywhere_gives_the_whole_frames_before_the_cut(
    payloads: list[bytes], data: st.DataObject
) -> None:
    buffer = frame(payloads)
    cut = data.draw(st.integers(0, len(buffer) - 1))
    whole = [p for i, p in enumerate(payloads) if len(frame(payloads[: i + 1])) <= cut]
    found = scan(buffer[:cut], 1000)
    assert found.records == whole
    assert found.damaged == []
    assert found.end == len(frame(whole))


@settings(deadline=None)
@given(
    st.lists(st.text("abc{}:", min_size=1, max_size=40).map(str.encode), min_size=2, max_size=8), st.data()
)
def test_one_flipped_byte_costs_one_record(payloads: list[bytes], data: st.DataObject) -> None:
    buffer = bytearray(frame(payloads))
    hurt = data.draw(
        st.integers(0, len(payloads) - 2)
    )  # the last has nothing behind it to tell where it ends
    start = len(frame(payloads[:hurt]))
    at = data.draw(st.integers(start, len(frame(payloads[: hurt + 1])) - 1))
    buffer[at] ^= data.draw(st.integers(1, 255))
    found = scan(bytes(buffer), 1000)
    assert found.records == payloads[:hurt] + payloads[hurt + 1 :]
    (stretch,) = found.damaged
    assert (stretch.start, stretch.end) == (start, len(frame(payloads[: hurt + 1])))
    assert found.end == len(buffer)


def test_a_flipped_byte_in_the_last_record_is_damage_not_an_unfinished_write() -> None:
    buffer = bytearray(frame([b"one", b"two"]))
    buffer[-1] ^= 1
    found = scan(bytes(buffer), 10)
    assert found.records == [b"one"]
    assert [s.reason for s in found.damaged] == [BAD_CHECKSUM]
    assert found.end == len(buffer)


def test_a_record_cut_in_the_middle_with_whole_ones_behind_is_passed_over() -> None:
    first, second, third = frame([b"first"]), frame([b"second"]), frame([b"third"])
    found = scan(first + second[: HEADER_BYTES + 2] + third, 10)
    assert found.records == [b"first", b"third"]
    (stretch,) = found.damaged
    assert stretch.end - stretch.start == HEADER_BYTES + 2
    assert stretch.reason in (CUT_SHORT, BAD_CHECKSUM)
