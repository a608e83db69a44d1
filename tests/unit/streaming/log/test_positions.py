"""Positions of every sort of log: of one width, ascending as text, refused where they are of another sort."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contract.validation import Event, Item, User
from feature_repo.errors import LogError
from streaming.log import key_of, partition_of
from streaming.log import redis_streams as redis_log
from streaming.log.kafka_reader import offset_of as kafka_offset
from streaming.log.kafka_reader import token as kafka_token
from streaming.log.segment_folder import offset_of as segment_offset
from streaming.log.segment_folder import token as segment_token
from tests.support.events_strategy import AS_OF

offsets = st.integers(0, 10**19)


@given(offsets, offsets)
def test_offsets_compare_as_text(one: int, two: int) -> None:
    for token, offset in ((segment_token, segment_offset), (kafka_token, kafka_offset)):
        assert (token(one) < token(two)) == (one < two)
        assert offset(token(one)) == one
        assert len(token(one)) == len(token(two)) == 20


@given(st.tuples(offsets, st.integers(0, 2**64 - 1)), st.tuples(offsets, st.integers(0, 2**64 - 1)))
def test_entry_ids_compare_as_text(one: tuple[int, int], two: tuple[int, int]) -> None:
    first, second = (redis_log._token(b"%d-%d" % pair) for pair in (one, two))
    assert (first < second) == (one < two)
    assert redis_log._entry_id(first) == f"{one[0]}-{one[1]}"


@pytest.mark.parametrize("position", ["", "x", "-1", "1.5", " 1"])
def test_invalid_positions_are_refused(position: str) -> None:
    for offset, sort in (
        (segment_offset, "segment"),
        (kafka_offset, "Kafka"),
        (redis_log._entry_id, "Redis"),
    ):
        with pytest.raises(LogError, match=f"is not a position of a {sort} log"):
            offset(position)


def test_positions_of_one_log_are_refused_by_another() -> None:
    with pytest.raises(LogError, match="not a position of a Redis log"):
        redis_log._entry_id(segment_token(5))
    with pytest.raises(LogError, match="not a position of a Kafka log"):
        kafka_offset(redis_log._token(b"5-0"))


@given(st.text(max_size=20), st.integers(1, 64))
def test_a_partition_exists_and_stays(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == partition_of(str(key), partitions)


def test_partitions_are_filled_evenly() -> None:
    counts = [0] * 8
    for n in range(8000):
        counts[partition_of(f"session-{n}", 8)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


def test_records_are_ordered_by_session_item_or_user() -> None:
    event = Event(
        event_id="e", event_type="click", event_time=AS_OF, session_id="s", item_id="i", user_id="u"
    )
    assert [key_of(r) for r in (event, Item(item_id="i"), User(user_id="u"))] == ["s", "i", "u"]
