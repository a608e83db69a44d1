"""Exploration: logged propensities match the draw, and nothing is lost."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import SettingsError
from serving.control.flags import Exploration
from serving.pipeline.draws import chances
from serving.pipeline.exploration import explore
from tests.oracles import page_oracle

SHARES = st.sampled_from([0.0, 0.1, 0.15, 0.2])


@pytest.mark.parametrize(
    ("draws", "count", "limit", "rules"),
    [
        (100_000, 15, 8, Exploration(share=0.15, slots=8)),
        (20_000, 9, None, Exploration(share=0.2, slots=20)),
        (20_000, 40, 10, Exploration(share=0.2, slots=10)),
    ],
    ids=["1.2 of 8 slots, 7 below", "fewer candidates than slots", "2 of 10 slots, 30 below"],
)
def test_propensities_are_those_of_simulated_draws(
    draws: int, count: int, limit: int | None, rules: Exploration
) -> None:
    order = np.random.default_rng(1).permutation(count).astype(np.intp)
    window = _window_of(order, rules, limit)
    places = np.minimum(np.arange(count), window)  # all positions below the window count as one
    seen, least, most = (
        np.zeros((count, window + 1)),
        np.ones((count, window + 1)),
        np.zeros((count, window + 1)),
    )
    explored = 0
    for draw in range(draws):
        found = explore(order, f"request-{draw}", rules, limit)
        explored += len(found.slots)
        cells = found.order, places
        chances = found.propensities[found.order]
        seen[cells] += 1
        least[cells] = np.minimum(least[cells], chances)
        most[cells] = np.maximum(most[cells], chances)
    met = seen > 0
    np.testing.assert_allclose(
        least[met], most[met], atol=1e-12
    )  # the probability of a position does not vary
    spread = np.sqrt(most * (1 - most) / draws)
    assert (np.abs(seen / draws - most)[met] <= 5 * spread[met] + 1e-12).all()
    assert (most[~met] == 0).all()
    np.testing.assert_allclose(most.sum(axis=1), 1.0)
    np.testing.assert_allclose(most[:, :window].sum(axis=0), 1.0)
    assert explored / draws == pytest.approx(rules.share * window, abs=0.01)


def _window_of(order: np.ndarray, rules: Exploration, limit: int | None) -> int:
    """Count the slots that may explore: the candidates below must be able to fill them."""
    count = len(order)
    window = min(count if limit is None else limit, rules.slots)
    while count - window < int(np.ceil(rules.share * window)):
        window -= 1
    return window


@given(
    st.integers(0, 60),
    st.one_of(st.none(), st.integers(1, 70)),
    SHARES,
    st.integers(1, 30),
    st.text(max_size=8),
)
def test_nothing_is_lost_and_the_top_keeps_its_order(
    count: int, limit: int | None, share: float, slots: int, request_id: str
) -> None:
    order = np.random.default_rng(count).permutation(count).astype(np.intp)
    found = explore(order, request_id, Exploration(share=share, slots=slots), limit)
    assert sorted(found.order.tolist()) == list(range(count))
    assert ((found.propensities > 0) & (found.propensities <= 1)).all()
    window = min(count if limit is None else limit, slots)
    assert len(found.slots) <= int(np.ceil(share * window))
    assert set(found.slots.tolist()) <= set(range(window))
    kept = [c for place, c in enumerate(found.order.tolist()) if place not in set(found.slots.tolist())]
    rank = {c: r for r, c in enumerate(order.tolist())}
    assert [rank[c] for c in kept] == sorted(rank[c] for c in kept)
    if share == 0:
        assert found.order.tolist() == order.tolist()
        assert (found.propensities == 1).all()


@given(st.text(max_size=12))
def test_the_request_id_determines_the_draw(request_id: str) -> None:
    order = np.arange(50)
    first, second = (explore(order, request_id, Exploration(), 20) for _ in range(2))
    assert first.order.tolist() == second.order.tolist()
    assert first.propensities.tolist() == second.propensities.tolist()


def test_the_draw_is_pinned_so_that_old_answers_can_be_replayed() -> None:
    found = explore(np.arange(12), "pinned", Exploration(share=0.2, slots=10), 10)
    assert found.order.tolist() == PINNED


@given(st.integers(0, 60), st.none() | st.integers(1, 70), SHARES, st.integers(1, 100), st.text(max_size=8))
def test_it_is_what_sorting_gives(
    count: int, limit: int | None, share: float, slots: int, request_id: str
) -> None:
    order = np.random.default_rng(count).permutation(2 * count)[:count].astype(np.intp)
    rules = Exploration(share=share, slots=slots)
    found = explore(order, request_id, rules, limit)
    naive = page_oracle.explore(order, request_id, rules, limit)
    for mine, theirs in zip((found.order, found.propensities, found.slots), naive, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-12 if mine.dtype == float else 0)


@given(st.integers(1, 100), st.floats(0.1, 0.2))
def test_chances_are_those_in_whole_numbers_and_sum_to_one(m: int, share: float) -> None:
    standing, behind = chances(m, share)
    for mine, theirs in zip((standing, behind), page_oracle.chances(m, share), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(standing.sum(axis=1) + behind, 1.0, rtol=1e-12)


def test_an_order_of_what_is_no_candidate_is_refused() -> None:
    with pytest.raises(IndexError, match="is negative"):
        explore(np.array([3, -1, 2, 0]), "r", Exploration(share=0.2, slots=2))


def test_part_of_the_candidates_may_be_ordered() -> None:
    found = explore(np.array([7, 3, 9]), "r", Exploration(share=0.2, slots=2), 2)
    assert sorted(found.order.tolist()) == [3, 7, 9]
    assert len(found.propensities) == 10


@pytest.mark.parametrize("share", [0.05, 0.25, -0.1, 1.0])
def test_shares_out_of_bounds_are_refused(share: float) -> None:
    with pytest.raises((SettingsError, msgspec.ValidationError)):
        msgspec.convert({"share": share}, Exploration)


def test_a_share_below_the_least_says_what_is_allowed() -> None:
    with pytest.raises(SettingsError, match=r"exploration\.share: 0\.05; 0 turns it off.* 0\.1 … 0\.2"):
        Exploration(share=0.05)


PINNED = [0, 11, 1, 2, 3, 10, 4, 5, 6, 7, 8, 9]


@given(st.integers(2, 40), st.integers(1, 20), st.sampled_from([0.1, 0.15, 0.2]), st.text(max_size=6))
def test_explored_items_come_from_below_the_window(
    count: int, slots: int, share: float, request_id: str
) -> None:
    rules = Exploration(share=share, slots=slots)
    found = explore(np.arange(count), request_id, rules)
    explored = found.order[found.slots]
    assert (explored >= _window_of(np.arange(count), rules, None)).all()
    others = np.setdiff1d(found.order, explored)
    by_slot = [c for c in found.order.tolist() if c not in set(explored.tolist())]
    assert by_slot == sorted(others.tolist())
