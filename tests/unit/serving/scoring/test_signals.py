"""Signals: each formula by hand, and properties of all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scoring.base_order import base_scores
from serving.scoring.profile_signals import KeptTastes
from serving.scoring.signal_groups import GROUPS
from serving.scoring.signal_matrix import Known, SignalMatrix, signals, touched_items
from serving.scoring.signals import group_of
from tests.support.ranking_data import NOW_MS, item, neighbours_table, profile, session, snapshot

ROWS = [
    item("a", ["category:shoes", "color:red"], ctr=0.2, popularity_long=3.0, clicks=7.0),
    item("b", ["category:shoes", "color:blue"], numeric_keys=["price"], numeric_values=[9.0]),
    item("c", ["category:hats"], numeric_keys=["price"], numeric_values=[99.0], ctr=0.05),
]
PAIRS = neighbours_table({"a": {"b": 4.0, "gone": 2.0}, "b": {"a": 4.0}}, {"a": 10, "b": 5})
SNAPSHOT = snapshot(ROWS, PAIRS)
NOTHING = Known()


def compute(
    item_ids: list[str], known: Known = NOTHING, scores: list[float | None] | None = None
) -> SignalMatrix:
    rows = SNAPSHOT.rows(SNAPSHOT.numbers(item_ids), touched_items(known.session))
    return signals(base_scores(scores or [None] * len(item_ids)), rows, known, NOW_MS)


def column(matrix: SignalMatrix, name: str) -> list[float]:
    return matrix.values[:, matrix.names.index(name)].tolist()


def test_every_signal_has_a_column_and_a_group() -> None:
    matrix = compute(["a", "b"])
    assert matrix.values.shape == (2, len(matrix.names))
    assert len(set(matrix.names)) == len(matrix.names)
    assert {group_of(name) for name in matrix.names} == set(GROUPS)
    assert "log_odds:color" in matrix.names
    assert "distance:price" in matrix.names


def test_base_scores_come_from_the_scores_else_from_the_order() -> None:
    assert base_scores([3.0, 1.0, 2.0]).tolist() == [1.0, 0.0, 0.5]
    assert base_scores([3.0, None, 2.0]).tolist() == [1.0, 0.5, 0.0]
    assert base_scores([2.0, 2.0, 2.0]).tolist() == [1.0, 0.5, 0.0]
    assert base_scores([7.0]).tolist() == [1.0]
    assert base_scores([]).tolist() == []


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_base_scores_lie_in_the_unit_interval_and_keep_the_order(scores: list[float]) -> None:
    found = base_scores(scores)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    if min(scores) < max(scores):
        by_score = np.argsort(scores, kind="stable")
        assert (np.diff(found[by_score]) >= 0).all()


def test_log_odds_are_clicks_beyond_expectation_by_type() -> None:
    user = profile(
        {"category:shoes": (4.0, 1.0), "color:red": (0.0, 2.0), "color:mauve": (9.0, 0.0)}, rate=1.5
    )
    matrix = compute(["a", "b", "c"], Known(user=user))
    shoes, red = math.log(5.0 / 2.5), math.log(1.0 / 4.0)
    assert column(matrix, "log_odds:category") == pytest.approx([shoes, shoes, 0.0])
    assert column(matrix, "log_odds:color") == pytest.approx([red, 0.0, 0.0])
    assert np.isnan(column(matrix, "segment_log_odds:color")).all()


def test_the_segment_has_columns_of_its_own() -> None:
    matrix = compute(["c"], Known(segment=profile({"category:hats": (3.0, 1.0)})))
    assert column(matrix, "segment_log_odds:category") == pytest.approx([math.log(2.0)])
    assert np.isnan(column(matrix, "log_odds:category")).all()


def test_distance_is_to_the_users_median_on_the_log_scale() -> None:
    matrix = compute(["a", "b", "c"], Known(user=profile({"color:red": (1.0, 0.0)}, medians={"price": 9.0})))
    found = column(matrix, "distance:price")
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.0, math.log(10.0)])
    assert column(matrix, "numeric:price")[1:] == pytest.approx([math.log(10.0), math.log(100.0)])


def test_reception_is_on_the_log_scale() -> None:
    matrix = compute(["a", "c"])
    assert column(matrix, "log_ctr") == pytest.approx([math.log(0.2), math.log(0.05)])
    assert column(matrix, "log_clicks") == pytest.approx([math.log(8.0), math.log(2.0)])
    assert column(matrix, "popularity:long") == pytest.approx([math.log(4.0), 0.0])


def test_covisits_are_lift_over_the_candidates_share() -> None:
    matrix = compute(["b", "c"], Known(session=session({"a": 0})))
    share = 1.0 / 6.0  # one unit per item for three items, plus three for item a
    with_b = math.log((4.0 + 3 * share) / (13.0 * share))
    with_c = math.log(3 * share / (13.0 * share))
    assert column(matrix, "covisit") == pytest.approx([with_b / 2, with_c / 2])  # one click: half weight


def test_a_session_weighs_nothing_at_zero_clicks_and_more_with_each() -> None:
    empty = compute(["a", "c"], Known(session=session({})))
    assert np.isnan(column(empty, "session_affinity:category")).all()
    assert np.isnan(column(empty, "covisit")).all()
    assert column(empty, "touched") == [0.0, 0.0]
    gaps = []
    for clicks in (1, 2, 5):
        touched = {f"x{i}": i for i in range(clicks)}
        found = column(
            compute(["a", "c"], Known(session=session(touched, {"category:shoes": float(clicks)}))),
            "session_affinity:category",
        )
        gaps.append(found[0] - found[1])
    assert 0 < gaps[0] < gaps[1] < gaps[2]


def test_touched_items_are_marked_and_fade() -> None:
    matrix = compute(["a", "b", "c"], Known(session=session({"b": 0, "a": 600})))
    assert column(matrix, "touched") == [1.0, 1.0, 0.0]
    assert column(matrix, "touched_recently") == pytest.approx([0.5, 1.0, 0.0])


def test_an_unknown_item_has_its_base_score_and_nothing_else() -> None:
    user = profile({"category:shoes": (4.0, 1.0)})
    matrix = compute(["a", "mystery"], Known(user=user, session=session({"a": 1}, {"category:shoes": 1.0})))
    known = [name for i, name in enumerate(matrix.names) if not np.isnan(matrix.values[1, i])]
    assert known == ["base", "position"]
    assert compute([]).values.shape == (0, len(matrix.names))


@given(st.permutations(["a", "b", "c", "mystery"]), st.booleans(), st.booleans())
def test_signals_of_an_item_do_not_depend_on_its_place(
    order: list[str], user: bool, in_session: bool
) -> None:
    known = Known(
        user=profile({"category:shoes": (4.0, 1.0)}) if user else None,
        session=session({"a": 5, "c": 9}, {"category:hats": 2.0}) if in_session else None,
    )
    straight, turned = compute(["a", "b", "c", "mystery"], known), compute(order, known)
    of_place = ("base", "position", "position_untouched", "below_last", "above_last")
    columns = [i for i, name in enumerate(straight.names) if name not in of_place]
    for i, item_id in enumerate(["a", "b", "c", "mystery"]):
        found = turned.values[order.index(item_id), columns]
        np.testing.assert_allclose(straight.values[i, columns], found)


@pytest.mark.parametrize(
    "broken", [{"attr_keys": None}, {"attr_keys": []}, {"attr_keys": [], "click_rate": None}]
)
def test_rows_without_values_count_as_absent(broken: dict[str, Any]) -> None:
    assert np.isnan(column(compute(["a"], Known(user=broken)), "log_odds:color")).all()


def test_what_machine_code_would_read_past_its_end_is_refused() -> None:
    known = Known(session={**session({"a": 1, "b": 2}), "item_times_ms": [NOW_MS]})
    with pytest.raises(ValueError, match="a session has 1 item_times_ms for 2 item_ids; each needs its own"):
        compute(["a"], known)
    with pytest.raises(ValueError, match="1 base scores for 2 candidates; each needs its own"):
        signals(np.ones(1), SNAPSHOT.rows(SNAPSHOT.numbers(["a", "b"])), NOTHING, NOW_MS)


def test_kept_tastes_change_nothing() -> None:
    known = Known(
        user=profile({"category:shoes": (4.0, 1.0)}, medians={"price": 9.0}),
        segment=profile({"color:red": (1.0, 2.0)}),
        session=session({"a": 5, "b": 9}, {"category:hats": 2.0}),
    )
    kept, item_ids = KeptTastes(), ["a", "mystery", "c"]
    rows = SNAPSHOT.rows(SNAPSHOT.numbers(item_ids), touched_items(known.session))
    wanted = compute(item_ids, known).values.tobytes()
    for _ in range(2):
        assert signals(base_scores([None] * 3), rows, known, NOW_MS, tastes=kept).values.tobytes() == wanted
