"""The row cache: limited in number and age."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from serving.features.row_cache import Copies
from serving.pipeline.context import Row

ROW = Row({"a": 1}, datetime(2024, 6, 1, tzinfo=UTC))


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_copy_is_given_out_up_to_its_age() -> None:
    ticks = Ticks()
    copies = Copies(2, 10.0, ticks)
    copies.put("a", ROW)
    ticks.now = 10.0
    assert copies.get("a") is ROW
    assert copies.age("a") == 10.0
    ticks.now = 10.5
    assert copies.get("a") is None
    assert copies.get("b") is None
    assert copies.age("b") is None


def test_a_dropped_copy_is_gone() -> None:
    copies = Copies(2, 10.0, Ticks())
    copies.put("a", ROW)
    copies.drop("a")
    copies.drop("never there")
    assert copies.get("a") is None


@given(st.integers(1, 5), st.lists(st.integers(0, 9)))
def test_the_last_written_are_kept(size: int, keys: list[int]) -> None:
    copies = Copies(size, 1.0, Ticks())
    for key in keys:
        copies.put(str(key), ROW)
    newest = list(dict.fromkeys(reversed(keys)))[:size]
    assert [k for k in range(10) if copies.get(str(k)) is not None] == sorted(newest)
