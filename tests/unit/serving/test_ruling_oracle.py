"""Each kind of rule against what it promises, over random orders."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.rules import AtMost, Demote, Exclude, Pin, Rules
from serving.ruling import apply_rules
from tests.ranking_data import item, snapshot

COUNT = 10
IDS = [f"i{n}" for n in range(COUNT)]
BRAND = {i: "xyz"[n % 3] for n, i in enumerate(IDS)}
SNAPSHOT = snapshot([item(i, [f"brand:{BRAND[i]}", "category:all"]) for i in IDS])
orders = st.permutations(range(COUNT))
some = st.sets(st.sampled_from(IDS), min_size=1, max_size=5)


def after(rule: Exclude | Demote | AtMost | Pin, order: list[int]) -> tuple[list[int], dict[int, str]]:
    found = apply_rules(Rules((rule,)), np.array(order), IDS, SNAPSHOT)
    return found.order.tolist(), dict(found.dropped)


@given(orders, some)
def test_exclusion_drops_what_matches_and_nothing_else(order: list[int], items: set[str]) -> None:
    left, dropped = after(Exclude(name="e", items=tuple(items)), order)
    assert left == [i for i in order if IDS[i] not in items]
    assert dropped == {i: "e" for i in order if IDS[i] in items}


@given(orders, st.sampled_from("xyz"))
def test_exclusion_by_attribute(order: list[int], brand: str) -> None:
    left, _ = after(Exclude(name="e", attributes=(f"brand:{brand}",)), order)
    assert left == [i for i in order if BRAND[IDS[i]] != brand]


@given(orders, st.sampled_from(IDS), st.integers(1, 15))
def test_a_demoted_item_goes_down_by_just_as_much(order: list[int], item_id: str, steps: int) -> None:
    left, _ = after(Demote(name="d", items=(item_id,), by=steps), order)
    index = IDS.index(item_id)
    assert left.index(index) == min(order.index(index) + steps, COUNT - 1)
    assert [i for i in left if i != index] == [i for i in order if i != index]


@given(orders, some)
def test_demotion_to_the_end_keeps_both_parts_in_order(order: list[int], items: set[str]) -> None:
    left, _ = after(Demote(name="d", items=tuple(items)), order)
    assert left == [i for i in order if IDS[i] not in items] + [i for i in order if IDS[i] in items]


@given(orders, st.integers(1, 4), st.integers(1, 9))
def test_no_value_exceeds_its_count_among_the_first(order: list[int], count: int, first: int) -> None:
    left, dropped = after(AtMost(name="a", type="brand", count=count, first=first), order)
    assert not dropped
    reachable = min(first, 3 * count)
    counts = Counter(BRAND[IDS[i]] for i in left[:reachable])
    assert max(counts.values()) <= count
    for brand in "xyz":
        of_brand = [i for i in order if BRAND[IDS[i]] == brand]
        assert [i for i in left if BRAND[IDS[i]] == brand] == of_brand


@given(orders, st.integers(1, 4))
def test_without_positions_the_best_of_each_value_stay(order: list[int], count: int) -> None:
    left, dropped = after(AtMost(name="a", type="brand", count=count), order)
    kept = []
    counts: Counter[str] = Counter()
    for i in order:
        if counts[BRAND[IDS[i]]] < count:
            counts[BRAND[IDS[i]]] += 1
            kept.append(i)
    assert left == kept
    assert set(dropped) == set(order) - set(kept)


@given(orders, st.lists(st.sampled_from([*IDS, "gone"]), min_size=1, max_size=4), st.integers(0, 12))
def test_pinned_items_stand_together_and_others_keep_their_order(
    order: list[int], items: list[str], position: int
) -> None:
    left, _ = after(Pin(name="p", items=tuple(items), position=position), order)
    pinned = [IDS.index(i) for i in dict.fromkeys(items) if i in IDS]
    others = [i for i in order if i not in pinned]
    place = min(position, len(others))
    assert left == others[:place] + pinned + others[place:]
