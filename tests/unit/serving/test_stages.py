"""What single stages decide by themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_repo.groups.session_profile import LAST_ITEMS, Profile, SessionRules, Touch, step, values
from feature_repo.groups.user_recent import merge
from feature_repo.settings import BUILTIN_EVENT_WEIGHTS
from serving.context import Row
from serving.stages.ruling import bought_in

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "bought"),
    [
        (None, set()),
        ({}, set()),
        ({"item_ids": ["a", "b"], "item_weights": [6.0, 1.0], "purchase_count": 1}, {"a"}),
        ({"item_ids": ["a", "b"], "item_weights": [6.0, 1.0], "purchase_count": 0}, set()),
        ({"item_ids": ["a"], "item_weights": [6.0]}, set()),
        ({"item_ids": ["a", "b"], "item_weights": [5.0, 9.0], "purchase_count": 1}, {"b"}),
        ({"item_ids": ["a", "b"], "item_weights": [5.0, 9.0], "purchase_count": 2}, {"a", "b"}),
        ({"item_ids": ["a", "c"], "item_weights": [5.0, 9.0], "purchase_count": 1}, {"a"}),
        ({"purchased_items": ["a", "b", "c"], "purchase_count_90d": 9}, {"a", "b"}),
        ({"purchased_items": []}, set()),
        ({"purchased_items": None}, set()),
    ],
)
def test_what_a_session_a_day_or_a_profile_bought(values: dict[str, Any] | None, bought: set[str]) -> None:
    assert bought_in(None if values is None else Row(values, NOW), 5.0, {"c"}) == bought


RULES = SessionRules(gap_us=10**12, half_life_us=1e9)


@given(
    st.lists(
        st.tuples(st.sampled_from(["view", "click", "purchase"]), st.integers(0, LAST_ITEMS - 1)), max_size=40
    ),
    st.integers(0, 40),
)
@example([*[("view", 1)] * 4, ("purchase", 0), ("view", 1)], 0)
def test_what_was_bought_is_told_where_nothing_else_weighs_as_much(
    events: list[tuple[str, int]], cut: int
) -> None:
    """Against the events themselves, of one session and of two joined."""
    kept = [e for place, e in enumerate(events) if e[0] == "purchase" or e not in events[:place]]
    bought = {f"i{n}" for kind, n in kept if kind == "purchase"}
    runs: list[Profile | None] = [None, None]
    for at, (kind, n) in enumerate(kept):
        touch = Touch(at, f"e{at}", kind, BUILTIN_EVENT_WEIGHTS[kind], f"i{n}", "u")
        runs[at >= cut] = step(runs[at >= cut], touch, None, RULES)
    day = [run for run in runs if run is not None]
    if not day:
        return
    assert bought_in(Row(merge(day, RULES), NOW), 5.0) == bought
    each = [bought_in(Row(values(run, RULES), NOW), 5.0) for run in day]
    assert frozenset().union(*each) == bought
