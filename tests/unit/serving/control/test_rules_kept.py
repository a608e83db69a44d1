"""The caches of rules between requests, and the rules that a record keeps."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.control import rules as module
from serving.control.apply_rules import apply_rules
from serving.control.rules import AtMost, Demote, Exclude, Pin, Rule, Rules, items_of, relevant
from tests.support.ranking_data import item, snapshot

IDS = [f"i{n}" for n in range(6)]
SNAPSHOT = snapshot([item(i, [f"category:{'ab'[n % 2]}"]) for n, i in enumerate(IDS[:5])])


def test_the_items_of_a_rule_are_its_own_whatever_came_before_it() -> None:
    """Caching is by identity, and the memory of a deleted rule may be reused by another."""
    for round_ in range(module._KEPT + 100):
        rule = Exclude(name="r", items=(f"i{round_}", "always"))
        assert items_of(rule) == {f"i{round_}", "always"}
        assert items_of(rule) is items_of(rule), "worked out once"
        del rule
        if round_ % 500 == 0:
            gc.collect()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)
    monkeypatch.setattr(module, "_items", {})
    rules = [Pin(name=f"p{n}", items=(f"i{n}",)) for n in range(25)]
    for rule in (*rules, *rules):
        assert items_of(rule) == frozenset(rule.items)
        assert len(module._items) <= 10


ITEMS = st.lists(st.sampled_from([*IDS, "elsewhere", "unheard of"]), max_size=4).map(tuple)
ATTRIBUTES = st.sampled_from([(), ("category:a",), ("category:none",)])
RULES = st.one_of(
    st.tuples(st.just(Exclude), ITEMS, ATTRIBUTES, st.booleans()),
    st.tuples(st.just(Demote), ITEMS, ATTRIBUTES, st.none() | st.integers(1, 3)),
    st.tuples(st.just(Pin), ITEMS.filter(bool), st.just(()), st.integers(0, 4)),
    st.tuples(st.just(AtMost), st.just(()), st.just(()), st.integers(1, 2)),
)


def made(
    number: int, kind: type[Rule], items: tuple[str, ...], attributes: tuple[str, ...], more: int
) -> Rule:
    name = f"r{number}"
    if kind is AtMost:
        return AtMost(name=name, count=more, first=None if number % 2 else 3)
    if kind is Pin:
        return Pin(name=name, items=items, position=more)
    if kind is Demote:
        return Demote(name=name, items=items or ("i0",), attributes=attributes, by=more)
    return Exclude(name=name, items=items or ("i1",), attributes=attributes, bought=bool(more))


@given(st.lists(RULES, max_size=6), st.permutations(range(6)), st.sets(st.sampled_from(IDS)))
def test_the_rules_that_are_recorded_do_what_all_of_them_did(
    drawn: list[tuple[type[Rule], tuple[str, ...], tuple[str, ...], int]], order: list[int], bought: set[str]
) -> None:
    """A replay has only the record, and gets the same order, drops and reasons from it."""
    rules = Rules(tuple(made(n, *one) for n, one in enumerate(drawn)))
    recorded = relevant(rules, IDS)
    given_order = np.array(order, np.intp)
    first, again = (apply_rules(r, given_order, IDS, SNAPSHOT, bought) for r in (rules, recorded))
    assert first.order.tolist() == again.order.tolist()
    assert (first.dropped, dict(first.moved)) == (again.dropped, dict(again.moved))
    kept = {name for rule in recorded.rules for name in getattr(rule, "items", ())}
    assert kept <= set(IDS), "ids of other pages do not belong in this record"


def test_rules_that_concern_nothing_here_are_not_recorded() -> None:
    rules = Rules(
        (
            Exclude(name="elsewhere", items=("x", "y")),
            Exclude(name="bought", bought=True),
            Demote(name="both", items=("x", "i1", "i1")),
            Demote(name="by value", items=("x",), attributes=("category:a",)),
            Pin(name="pin", items=("y",)),
            AtMost(name="most", count=1),
        )
    )
    found = {rule.name: getattr(rule, "items", None) for rule in relevant(rules, IDS).rules}
    assert found == {"bought": (), "both": ("i1",), "by value": (), "most": None}


@given(st.permutations(range(6)), st.sets(st.sampled_from(IDS)), st.booleans())
def test_no_item_is_lost_or_doubled_by_any_rule(order: list[int], bought: set[str], cut: bool) -> None:
    rules = Rules(
        (
            Exclude(name="bought", bought=True),
            Demote(name="down", attributes=("category:a",), by=2),
            AtMost(name="most", count=1, first=None if cut else 2),
            Pin(name="up", items=("i4", "i0", "x"), position=1),
        )
    )
    found = apply_rules(rules, np.array(order, np.intp), IDS, SNAPSHOT, bought)
    assert sorted([*found.order.tolist(), *(i for i, _ in found.dropped)]) == list(range(6))
    assert {IDS[i] for i, name in found.dropped if name == "bought"} == bought
