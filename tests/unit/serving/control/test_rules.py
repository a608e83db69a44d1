"""Business rules: their effects, their errors when malformed, and that nothing is lost."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.catalogue import facts_of
from feature_repo.clock import wall_clock
from feature_repo.contract.validation import Item
from feature_repo.errors import SettingsError
from serving.control.apply_rules import apply_rules
from serving.control.rule_store import RuleStore
from serving.control.rules import (
    AtMost,
    Demote,
    Exclude,
    Pin,
    Ruled,
    Rules,
    parse_rules,
)
from tests.support.ranking_data import item, snapshot

IDS = [f"i{n}" for n in range(8)]
SNAPSHOT = snapshot(
    [item(i, [f"category:{'ab'[n % 2]}", f"brand:{'xyz'[n % 3]}"]) for n, i in enumerate(IDS[:7])]
)


def ruled(*rules: Any, order: list[int] | None = None, bought: set[str] | None = None) -> Ruled:
    given_order = np.array(range(8) if order is None else order, np.intp)
    return apply_rules(Rules(tuple(rules)), given_order, IDS, SNAPSHOT, bought or set())


def test_no_rules_change_nothing() -> None:
    assert ruled(order=[3, 1, 2]).order.tolist() == [3, 1, 2]


def test_excluded_items_are_dropped_under_the_rules_name() -> None:
    found = ruled(
        Exclude(name="blocked", items=("i3", "unheard of")),
        Exclude(name="no x", attributes=("brand:x",)),
        Exclude(name="bought", bought=True),
        bought={"i5", "i3"},
    )
    assert found.order.tolist() == [1, 2, 4, 7]
    assert found.dropped == ((3, "blocked"), (0, "no x"), (6, "no x"), (5, "bought"))


def test_demoted_items_go_down_by_as_much_or_to_the_end() -> None:
    assert ruled(Demote(name="d", items=("i0", "i2"))).order.tolist() == [1, 3, 4, 5, 6, 7, 0, 2]
    found = ruled(Demote(name="d", items=("i1",), by=2))
    assert found.order.tolist() == [0, 2, 3, 1, 4, 5, 6, 7]
    assert found.moved == {1: "d"}


def test_at_most_moves_the_rest_behind_the_first_positions() -> None:
    found = ruled(AtMost(name="two a", count=2, first=4))
    assert found.order.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    found = ruled(AtMost(name="one a brand", type="brand", count=1, first=3))
    assert found.order.tolist()[:3] == [0, 1, 2]
    found = ruled(AtMost(name="one", count=1, first=3))
    assert found.order.tolist() == [0, 1, 7, 2, 3, 4, 5, 6]  # i7 is unknown and has no category
    assert set(found.moved) == {2, 3, 4, 5, 6}


def test_at_most_without_positions_drops_the_rest() -> None:
    found = ruled(AtMost(name="one", count=1))
    assert found.order.tolist() == [0, 1, 7]
    assert [name for _, name in found.dropped] == ["one"] * 5


def test_pinned_items_stand_where_they_should_if_they_are_there() -> None:
    found = ruled(Pin(name="p", items=("i5", "gone", "i2"), position=1))
    assert found.order.tolist() == [0, 5, 2, 1, 3, 4, 6, 7]
    assert ruled(Pin(name="p", items=("i0",), position=99)).order.tolist() == [1, 2, 3, 4, 5, 6, 7, 0]


def test_what_is_excluded_is_not_pinned_and_pins_win_over_demotion() -> None:
    found = ruled(
        Pin(name="p", items=("i4", "i6")), Exclude(name="e", items=("i4",)), Demote(name="d", items=("i6",))
    )
    assert found.order.tolist() == [6, 0, 1, 2, 3, 5, 7]
    assert found.dropped == ((4, "e"),)
    assert found.moved[6] == "p"


def test_without_a_snapshot_rules_match_by_item_only() -> None:
    rules = Rules(
        (
            Exclude(name="e", items=("i1",), attributes=("brand:x",)),
            AtMost(name="a", count=1),
            Pin(name="p", items=("i2",)),
        )
    )
    found = apply_rules(rules, np.arange(4), IDS, None)
    assert found.order.tolist() == [2, 0, 3]


names = st.text("abcdefgh", min_size=4, max_size=12)
matching = {
    "items": st.lists(st.sampled_from([*IDS, "gone"]), min_size=1, max_size=4).map(tuple),
    "attributes": st.lists(st.sampled_from(["category:a", "brand:x", "brand:none"]), max_size=2).map(tuple),
}
rule = st.one_of(
    st.builds(Exclude, name=names, bought=st.booleans(), **matching),
    st.builds(Demote, name=names, by=st.one_of(st.none(), st.integers(1, 9)), **matching),
    st.builds(
        AtMost,
        name=names,
        count=st.integers(1, 3),
        type=st.sampled_from(["category", "brand", "none"]),
        first=st.one_of(st.none(), st.integers(1, 9)),
    ),
    st.builds(Pin, name=names, items=matching["items"], position=st.integers(0, 9)),
)


@given(
    st.lists(rule, max_size=5, unique_by=lambda r: r.name),
    st.permutations(range(8)),
    st.sets(st.sampled_from(IDS)),
    st.booleans(),
)
def test_nothing_is_lost_doubled_or_invented(
    rules: list[Any], order: list[int], bought: set[str], known: bool
) -> None:
    found = apply_rules(
        Rules(tuple(rules)), np.array(order), IDS, SNAPSHOT if known else None, frozenset(bought)
    )
    assert sorted([*found.order.tolist(), *(i for i, _ in found.dropped)]) == list(range(8))
    assert {name for _, name in found.dropped} <= {r.name for r in rules}


def test_the_file_is_read_and_a_missing_one_has_no_rules(tmp_path: Path) -> None:
    store = RuleStore(tmp_path, wall_clock)
    assert store.load() == Rules()
    store.path.write_text(
        json.dumps(
            {
                "rules": [
                    {"kind": "exclude", "name": "out", "attributes": ["stock:none"]},
                    {"kind": "at_most", "name": "two", "type": "brand", "count": 2, "first": 10},
                    {"kind": "demote", "name": "down", "items": ["i1"], "by": 3},
                    {"kind": "pin", "name": "up", "items": ["i2"]},
                ]
            }
        )
    )
    assert store.load().rules == (
        Exclude(name="out", attributes=("stock:none",)),
        AtMost(name="two", type="brand", count=2, first=10),
        Demote(name="down", items=("i1",), by=3),
        Pin(name="up", items=("i2",)),
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "rules: not valid JSON"),
        ("[]", "rules: Expected `object`, got `array`; kinds are exclude, demote, at_most and pin"),
        ('{"rules": [{"kind": "hide", "name": "x"}]}', r"rules\[0\]\.kind: Invalid value 'hide'"),
        (
            '{"rules": [{"kind": "pin", "name": "x", "items": []}]}',
            r"\[0\]\.items: Expected `array` of",
        ),
        ('{"rules": [{"kind": "pin", "name": "x", "item": "a"}]}', r"unknown field `item`"),
        (
            '{"rules": [{"kind": "at_most", "name": "x", "count": 0}]}',
            r"\[0\]\.count: Expected `int` >= 1",
        ),
        ('{"rules": [{"kind": "exclude", "name": "x"}]}', "'x' matches nothing; give items, attributes or"),
        ('{"rules": [{"kind": "demote", "name": "x"}]}', "'x' matches nothing"),
        (
            '{"rules": [{"kind": "exclude", "name": "x", "attributes": ["shoes"]}]}',
            "'x': 'shoes': write an attribute value as type:value, e.g. category:shoes",
        ),
        (
            '{"rules": [{"kind": "at_most", "name": "x", "count": 1},'
            ' {"kind": "at_most", "name": "x", "count": 2}]}',
            "'x' occurs twice; names must be unique",
        ),
    ],
)
def test_malformed_rules_are_explained(tmp_path: Path, raw: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_rules(raw.encode())
    store = RuleStore(tmp_path, wall_clock)
    store.path.write_text(raw)
    with pytest.raises(SettingsError, match=r"rules\.json: rules"):
        store.load()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    store = RuleStore(tmp_path, wall_clock)
    store.path.mkdir()
    with pytest.raises(OSError, match=r"Is a directory: .*rules\.json"):
        store.load()


CYRILLIC, GREEK, TURKISH, GERMAN = "ОБУВЬ", "ΡΟΛΟΓΙΑ ΧΕΙΡΟΣ", "İSTANBUL", "Straße"
SPELLINGS = {
    text: {text, text.lower(), text.title(), text.casefold(), unicodedata.normalize("NFD", text)}
    for text in (CYRILLIC, GREEK, TURKISH, GERMAN, "Café", "Shoes")
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_rule_matches_in_any_case_and_composition(text: str) -> None:
    stored = facts_of(Item(item_id="i0", categories=(text,), attributes={"Größe": text})).attr_keys
    items = snapshot([item("i0", list(stored)), item("i1", ["category:other"])])
    for spelling in SPELLINGS[text]:
        for kind, name in (("exclude", "category"), ("exclude", "CATEGORY"), ("demote", "größe")):
            rules = parse_rules(
                json.dumps(
                    {"rules": [{"kind": kind, "name": "n", "attributes": [f"{name}:{spelling}"]}]}
                ).encode()
            )
            found = apply_rules(rules, np.arange(2), ["i0", "i1"], items)
            assert found.order.tolist() == ([1] if kind == "exclude" else [1, 0]), spelling


def test_a_type_matches_in_any_case_and_composition() -> None:
    keys = [list(facts_of(Item(item_id="x", attributes={"ΜΆΡΚΑ": "a"})).attr_keys) for _ in range(2)]
    items = snapshot([item(f"i{n}", of) for n, of in enumerate(keys)])
    for spelling in ("ΜΆΡΚΑ", "μάρκα", unicodedata.normalize("NFD", "Μάρκα")):
        rule = AtMost(name="one", type=spelling, count=1)
        found = apply_rules(Rules((rule,)), np.arange(2), ["i0", "i1"], items)
        assert found.dropped == ((1, "one"),)
