"""Rows by their bytes: the same bytes are the same row, other bytes are another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from feature_repo.online.row_memo import KeptRows

T0 = datetime(2024, 6, 1, tzinfo=UTC)


def decode(answered: list[Any]) -> tuple[dict[str, Any], datetime] | None:
    return None if answered[0] is None else ({"value": answered[0]}, T0)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.binary(max_size=1)))),
    st.integers(0, 2),
)
def test_rows_are_those_of_decoding_each(asked: list[tuple[str, bytes | None]], most: int) -> None:
    kept = KeptRows(decode, most)
    for key, raw in asked:
        row = kept.row(key, [raw])
        assert (None if row is None else (row.key, row.values)) == (
            None if raw is None else (key, {"value": raw})
        )


def test_the_same_bytes_are_the_same_object_until_the_memory_is_full() -> None:
    kept = KeptRows(decode, 2)
    first = kept.row("a", [b"1"])
    assert kept.row("a", [b"1"]) is first
    assert kept.row("a", [b"2"]) is not first
    kept.row("b", [b"1"])
    held = kept.row("b", [b"1"])
    kept.row("c", [b"1"])  # full: cleared
    assert kept.row("b", [b"1"]) is not held


def test_nothing_is_kept_where_nothing_shall_be() -> None:
    kept = KeptRows(decode, 0)
    assert kept.row("a", [b"1"]) is not kept.row("a", [b"1"])
