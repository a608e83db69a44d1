"""All signals of random shops, users and sessions against the plain definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.scoring.base_order import base_scores
from serving.scoring.signal_matrix import Known, signals, touched_items
from tests.oracles.signals_oracle import Shop
from tests.support.ranking_data import NOW_MS, item, neighbours_table, snapshot

IDS = [f"i{n}" for n in range(6)]
KEYS = [f"{kind}:{value}" for kind in ("genre", "tag", "maker") for value in "abc"]
amounts = st.floats(0, 50).map(lambda v: round(v, 3))


@st.composite
def items(draw: st.DrawFn, item_id: str) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["price", "year", "size"]), unique=True))
    return item(
        item_id,
        draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=5)),
        numeric_keys=names,
        numeric_values=[draw(st.floats(-100, 3000)) for _ in names],
        ctr=draw(st.floats(0, 1)),
        clicks=draw(amounts),
        ctr_debiased=draw(st.floats(0, 3)),
        age_days=draw(st.floats(0, 400)),
        popularity_short=draw(amounts),
        popularity_mid=draw(amounts),
        popularity_long=draw(amounts),
    )


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from([*KEYS, "genre:unheard", "odd:one"]), unique=True, max_size=8))
    names = draw(st.lists(st.sampled_from(["price", "year", "weight"]), unique=True))
    return {
        "attr_keys": keys,
        "attr_clicks": [draw(amounts) for _ in keys],
        "attr_expected": [draw(amounts) for _ in keys],
        "click_rate": draw(st.floats(0.1, 5)),
        "numeric_keys": names,
        "numeric_medians": [draw(st.floats(-50, 2000)) for _ in names],
    }


@st.composite
def sessions(draw: st.DrawFn) -> dict[str, Any]:
    touched = draw(st.lists(st.sampled_from([*IDS, "gone"]), unique=True, max_size=7))
    ages = sorted(draw(st.integers(-60, 7200)) for _ in touched)
    keys = draw(st.lists(st.sampled_from([*KEYS, "genre:unheard"]), unique=True, max_size=6))
    return {
        "item_ids": touched,
        "item_times_ms": [NOW_MS - 1000 * age for age in ages],
        "attr_keys": keys,
        "attr_weights": [draw(amounts) for _ in keys],
    }


pairs = st.dictionaries(
    st.sampled_from([*IDS, "gone"]),
    st.dictionaries(st.sampled_from([*IDS, "gone"]), st.integers(1, 9).map(float), max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*(items(i) for i in IDS)),
    pairs,
    pairs,
    st.builds(
        Known,
        user=st.one_of(st.none(), profiles()),
        segment=st.one_of(st.none(), profiles()),
        session=st.one_of(st.none(), sessions()),
    ),
    st.permutations([*IDS, "unknown"]),
)
def test_every_signal_equals_its_definition(
    rows: tuple[dict[str, Any], ...],
    together: dict[str, dict[str, float]],
    steps: dict[str, dict[str, float]],
    known: Known,
    candidates: list[str],
) -> None:
    counts = {item_id: 3 + n for n, item_id in enumerate([*IDS, "gone"])}
    shop = Shop(rows, together, counts, steps)
    held = snapshot(rows, neighbours_table(together, counts, steps))
    found = signals(
        base_scores([None] * len(candidates)),
        held.rows(held.numbers(candidates), touched_items(known.session)),
        known,
        NOW_MS,
    )
    for place, item_id in enumerate(candidates):
        mine = dict(zip(found.names, found.values[place].tolist(), strict=True))
        assert mine.pop("base") == 1 - place / (len(candidates) - 1)
        assert mine.pop("position") == -np.log2(place + 2)
        if item_id == "unknown":
            assert all(np.isnan(value) for value in mine.values())
            continue
        wanted = shop.signals(item_id, candidates, known.user, known.segment, known.session)
        assert mine.keys() == wanted.keys()
        np.testing.assert_allclose(
            list(mine.values()), [wanted[name] for name in mine], rtol=1e-9, atol=1e-9, err_msg=item_id
        )
