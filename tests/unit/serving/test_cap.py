"""The cap: whatever personalization wants, nothing moves further than it may."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.base import BaseOrder, base_order
from serving.cap import capped
from serving.flags import Cap
from serving.request import Candidate


def base_of(scores: list[float | None]) -> BaseOrder:
    return base_order([Candidate(f"i{n}", s) for n, s in enumerate(scores)])


def test_without_bounds_nothing_changes() -> None:
    base = base_of([None] * 4)
    assert capped(np.array([3, 2, 1, 0]), base, Cap(positions=None)).tolist() == [3, 2, 1, 0]


def test_bounds_of_zero_are_the_base_order() -> None:
    base = base_of([1.0, 4.0, 2.0])
    for cap in (Cap(positions=0), Cap(positions=None, share=0.0)):
        assert capped(np.array([0, 2, 1]), base, cap).tolist() == base.order.tolist()


def test_an_order_well_within_the_bounds_is_kept() -> None:
    base = base_of([None] * 6)
    wanted = np.array([1, 0, 3, 2, 5, 4])
    assert capped(wanted, base, Cap(positions=2)).tolist() == wanted.tolist()


def test_no_candidates() -> None:
    assert capped(np.array([], np.intp), base_of([]), Cap(positions=1)).tolist() == []


def test_equal_base_scores_may_change_places_freely_under_a_share() -> None:
    base = base_of([1.0, 1.0, 1.0, 0.0])
    # Equal scores are told apart by the order given only where *all* are equal.
    assert capped(np.array([2, 1, 0, 3]), base, Cap(positions=None, share=0.1)).tolist() == [2, 1, 0, 3]


@given(
    st.lists(st.floats(-100, 100).map(lambda s: round(s, 2)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
    st.integers(0, 40) | st.none(),
    st.floats(0, 1.5) | st.none(),
)
def test_no_item_leaves_its_window(
    scores: list[float], random: object, positions: int | None, share: float | None
) -> None:
    base = base_of(list(scores))
    wanted = list(range(len(scores)))
    random.shuffle(wanted)  # type: ignore[attr-defined]
    order = capped(np.array(wanted), base, Cap(positions=positions, share=share))
    assert sorted(order.tolist()) == list(range(len(scores)))
    falling = base.scores[base.order]
    spread = falling[0] - falling[-1]
    for place, index in enumerate(order):
        if positions is not None:
            assert abs(place - base.positions[index]) <= positions
        if share is not None:
            assert abs(base.scores[index] - falling[place]) <= share * spread + 1e-9
