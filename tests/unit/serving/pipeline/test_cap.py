"""The cap: nothing moves farther than allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.control.flags import Cap
from serving.pipeline.cap import capped
from serving.schemas.rank_request import Candidate
from serving.scoring.base_order import BaseOrder, base_order
from tests.oracles import page_oracle


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
    # Equal scores follow the given order only if *all* are equal.
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


def by_definition(wanted: list[int], base: BaseOrder, cap: Cap) -> list[int]:
    """Clip each wanted position to half the window of the item's base position, in a plain loop."""
    n = len(wanted)
    falling = [float(base.scores[i]) for i in base.order]
    cut: dict[int, float] = {}
    for place, index in enumerate(wanted):
        home = int(base.positions[index])
        low, high = 0.0, n - 1.0
        if cap.positions is not None:
            low, high = max(low, home - cap.positions / 2), min(high, home + cap.positions / 2)
        if cap.share is not None:
            half = cap.share * (falling[0] - falling[-1]) / 2
            near = [p for p in range(n) if falling[home] - half <= falling[p] <= falling[home] + half]
            low, high = max(low, near[0]), min(high, near[-1])
        cut[index] = min(max(float(place), low), high)
    return sorted(wanted, key=cut.__getitem__)  # stable: ties keep the wanted order


@given(
    # Eighths add and halve without rounding, so both agree on scores at the edge of a window.
    st.lists(st.integers(-16, 16).map(lambda s: s / 8), min_size=1, max_size=25),
    st.randoms(use_true_random=False),
    st.integers(0, 25) | st.none(),
    st.sampled_from([None, 0.0, 0.25, 0.5, 1.0, 1.5]),
)
def test_it_is_the_order_of_the_definition(
    scores: list[float], random: object, positions: int | None, share: float | None
) -> None:
    # Use the original scores, because normalizing would round.
    base = base_of(list(scores))
    base = BaseOrder(np.array(scores), base.order, base.positions)
    wanted = list(range(len(scores)))
    random.shuffle(wanted)  # type: ignore[attr-defined]
    cap = Cap(positions=positions, share=share)
    expected = wanted if positions is None and share is None else by_definition(wanted, base, cap)
    assert capped(np.array(wanted), base, cap).tolist() == expected


@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
    st.integers(0, 60) | st.none(),
    st.floats(0, 1.5) | st.none(),
)
def test_it_gives_what_sorting_the_cut_places_gives(
    scores: list[float], random: object, positions: int | None, share: float | None
) -> None:
    base = base_of(list(scores))
    wanted = list(range(len(scores)))
    random.shuffle(wanted)  # type: ignore[attr-defined]
    cap = Cap(positions=positions, share=share)
    found = capped(np.array(wanted), base, cap)
    assert found.tolist() == page_oracle.capped(np.array(wanted), base, cap).tolist()


def test_an_order_within_its_windows_is_the_array_that_was_given() -> None:
    order = np.array([1, 0, 2, 3])
    assert capped(order, base_of([None] * 4), Cap(positions=2)) is order


@pytest.mark.parametrize("order", [[0, 1, 3], [0, -1, 2], [0, 1]])
def test_what_is_no_permutation_is_refused(order: list[int]) -> None:
    with pytest.raises(IndexError, match="not a permutation"):
        capped(np.array(order), base_of([None] * 3), Cap(positions=1))


def test_the_bound_is_no_tighter_than_half_its_window() -> None:
    """One item wants the top and pushes the others down one position; it passes half its window."""
    base = base_of([None] * 50)
    wanted = [40, *(i for i in range(50) if i != 40)]
    order = capped(np.array(wanted), base, Cap(positions=20)).tolist()
    assert order.index(40) == 29
    # The same with a share: base scores fall evenly, so a fifth of the spread is a fifth of the positions.
    evenly = base_of([float(50 - n) for n in range(51)])
    wanted = [40, *(i for i in range(51) if i != 40)]
    order = capped(np.array(wanted), evenly, Cap(positions=None, share=0.4)).tolist()
    assert order.index(40) in {29, 30}  # a score on the edge may round either way


def test_both_bounds_hold_at_once_and_the_tighter_one_decides() -> None:
    base = base_of([float(50 - n) for n in range(51)])
    wanted = np.array([40, *(i for i in range(51) if i != 40)])
    places = {
        (positions, share): capped(wanted, base, Cap(positions=positions, share=share)).tolist().index(40)
        for positions in (4, 40)
        for share in (0.1, 1.0)
    }
    assert places[4, 1.0] == 37
    assert places[40, 0.1] == 37
    assert places[4, 0.1] == 37
    assert places[40, 1.0] == 19
