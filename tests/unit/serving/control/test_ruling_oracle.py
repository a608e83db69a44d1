"""Each kind of rule against its definition, over random orders."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.control.apply_rules import apply_rules
from serving.control.rules import AtMost, Demote, Exclude, Pin, Rules
from tests.support.ranking_data import item, snapshot

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


# All kinds together, with several values per item, against a plain loop over lists.

TAGGED = snapshot(
    [item(i, [f"tag:{t}" for t in {n % 3, n % 4}] + ["category:all"]) for n, i in enumerate(IDS[:9])]
)
TAGS = {i: {f"tag:{n % 3}", f"tag:{n % 4}"} for n, i in enumerate(IDS[:9])}
tags = st.sets(st.sampled_from(["tag:0", "tag:1", "tag:3", "tag:9", "tag:none"]), max_size=2).map(tuple)
ids = st.sets(st.sampled_from([*IDS, "gone"]), max_size=3).map(tuple)
steps = st.none() | st.integers(1, 12)
any_rule = st.one_of(
    st.builds(Exclude, name=st.just("e"), items=ids, attributes=tags, bought=st.booleans()),
    st.builds(Demote, name=st.just("d"), items=ids, attributes=tags, by=steps),
    st.builds(
        AtMost, name=st.just("a"), type=st.sampled_from(["tag", "none"]), count=st.integers(1, 3), first=steps
    ),
    st.builds(Pin, name=st.just("p"), items=ids.filter(bool), position=st.integers(0, 12)),
)


def plainly(rules: list[Any], order: list[int], bought: set[str]) -> tuple[list[int], list[tuple[int, str]]]:
    """Return the remaining order, and the dropped items by kind of rule."""
    dropped: dict[int, str] = {}

    def about(rule: Exclude | Demote, index: int) -> bool:
        named = IDS[index] in rule.items or bool(TAGS.get(IDS[index], set()) & set(rule.attributes))
        return named or (isinstance(rule, Exclude) and rule.bought and IDS[index] in bought)

    for rule in rules:
        match rule:
            case Exclude():
                gone = [i for i in order if about(rule, i)]
                dropped.update(dict.fromkeys(gone, "e"))
                order = [i for i in order if i not in gone]
            case Demote():
                down = len(order) if rule.by is None else rule.by
                wanted = {i: at + (down + 0.5) * about(rule, i) for at, i in enumerate(order)}
                order = sorted(order, key=wanted.__getitem__)
            case AtMost():
                counts: Counter[str] = Counter()
                kept: list[int] = []
                over: list[int] = []
                rest = list(order)
                while rest and (rule.first is None or len(kept) < rule.first):
                    index = rest.pop(0)
                    values = TAGS.get(IDS[index], set()) if rule.type == "tag" else set()
                    if any(counts[v] >= rule.count for v in values):
                        over.append(index)
                    else:
                        counts.update(values)
                        kept.append(index)
                if rule.first is None:
                    dropped.update(dict.fromkeys(over, "a"))
                    order = kept
                else:
                    order = kept + over + rest
            case Pin():
                pinned = [IDS.index(i) for i in rule.items if i in IDS and IDS.index(i) in order]
                others = [i for i in order if i not in pinned]
                order = [*others[: rule.position], *pinned, *others[rule.position :]]
    return order, list(dropped.items())


@given(st.lists(any_rule, max_size=8), orders, st.sets(st.sampled_from(IDS), max_size=3))
def test_all_rules_together_against_a_plain_loop(
    rules: list[Any], order: list[int], bought: set[str]
) -> None:
    kinds = (Exclude, Demote, AtMost, Pin)
    given_rules = Rules(
        tuple(msgspec.structs.replace(r, name=f"{r.name}{n}") for n, r in enumerate(rules) if kept(r))
    )
    found = apply_rules(given_rules, np.array(order), IDS, TAGGED, bought)
    by_kind = [r for kind in kinds for r in given_rules.rules if isinstance(r, kind)]
    left, dropped = plainly(by_kind, order, bought)
    assert found.order.tolist() == left
    assert [(index, name[0]) for index, name in found.dropped] == dropped
    assert all(type(index) is int for index, _ in found.dropped)


def kept(rule: Any) -> bool:
    """Whether the file may contain it; a rule that matches nothing is refused."""
    if isinstance(rule, Exclude | Demote):
        return bool(rule.items or rule.attributes or getattr(rule, "bought", False))
    return True
