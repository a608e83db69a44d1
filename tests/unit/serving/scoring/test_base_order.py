"""The order without personalization."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.schemas.rank_request import Candidate
from serving.scoring.base_order import base_order, unit_scores

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def of(*scores: float | None) -> list[Candidate]:
    return [Candidate(f"i{n}", score) for n, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        ((1.0, 3.0, 2.0), [1, 2, 0]),
        ((None, None, None), [0, 1, 2]),
        ((1.0, None, 3.0), [0, 1, 2]),
        ((2.0, 2.0, 2.0), [0, 1, 2]),
        ((1.0, 1.0 + 1e-16, 1.0 + 3e-16), [2, 0, 1]),
        ((-1e308, 1e308, 0.0), [1, 2, 0]),
        ((), []),
    ],
)
def test_order(scores: tuple[float | None, ...], order: list[int]) -> None:
    assert base_order(of(*scores)).order.tolist() == order


@given(st.lists(FINITE | st.none(), max_size=40))
def test_positions_invert_the_order_and_scores_are_bounded(scores: list[float | None]) -> None:
    base = base_order(of(*scores))
    assert sorted(base.order.tolist()) == list(range(len(scores)))
    assert all(base.positions[index] == place for place, index in enumerate(base.order))
    assert np.isfinite(base.scores).all()
    assert ((base.scores >= 0) & (base.scores <= 1)).all()


@given(st.lists(FINITE, max_size=40))
def test_the_order_is_that_of_the_scores_given(scores: list[float]) -> None:
    naive = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert base_order(of(*scores)).order.tolist() == naive


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_scale_and_offset_of_the_scores_do_not_matter(
    scores: list[float], scale: float, shift: float
) -> None:
    rounded = [round(s, 3) for s in scores]
    if max(rounded) - min(rounded) < 1.0:
        return
    first = base_order(of(*rounded)).scores
    second = base_order(of(*[s * scale + shift for s in rounded])).scores
    assert np.allclose(first, second, atol=1e-4)


@given(
    st.lists(FINITE, max_size=60)
    | st.lists(st.floats(0, 10).map(lambda s: round(s, 1)), max_size=60)
    | st.lists(st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e308, -1e308]), max_size=20)
)
def test_scores_and_order_are_those_of_the_plain_formula(scores: list[float]) -> None:
    base, given_scores = base_order(of(*scores)), np.array(scores, np.float64)
    assert base.scores.tobytes() == (unit_scores(given_scores) + 0.0).tobytes()
    assert base.order.tolist() == (-given_scores).argsort(kind="stable").tolist()


def test_scores_that_are_missing_or_not_a_number_leave_the_order_given() -> None:
    for missing in (None, float("nan")):
        base = base_order(of(1.0, missing, 3.0))
        assert base.given
        assert base.order.tolist() == [0, 1, 2]
        assert base.scores.tolist() == [1.0, 0.5, 0.0]
    assert not base_order(of(1.0, 1.0)).given
