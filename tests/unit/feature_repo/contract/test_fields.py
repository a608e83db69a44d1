"""Nothing is lost without a word: wrong rooms, fields unknown, nulls, contradictions, numbers too long."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from feature_repo.contract.validation import (
    NAMES_TOLD,
    Contract,
    Event,
    Item,
    Kind,
    Record,
    ShownItem,
    User,
    decode,
)
from feature_repo.errors import ContractError
from feature_repo.settings import Settings
from tests.conftest import NOW
from tests.support.records import CLICK

ITEM: dict[str, Any] = {"record": "item", "item_id": "i1"}
USER: dict[str, Any] = {"record": "user", "user_id": "u1"}
SHOWN: dict[str, Any] = {**CLICK, "event_type": "impression", "items": [{"item_id": "a"}]}


def accepted(fields: dict[str, Any]) -> Any:
    """The record, the same whether it came as an object or as text."""
    contract = Contract(Settings(), lambda: NOW)
    record = contract.parse(fields)
    assert contract.parse(json.dumps(fields).encode()) == record
    return record


def refused(fields: dict[str, Any]) -> ContractError:
    found = []
    for raw in (fields, json.dumps(fields).encode()):
        with pytest.raises(ContractError) as caught:
            Contract(Settings(), lambda: NOW).parse(raw)
        found.append(caught.value)
    assert str(found[0]) == str(found[1])
    return found[0]


@pytest.mark.parametrize("wrong", [["a", "b"], "colour=red", 3, True], ids=json.dumps)
@pytest.mark.parametrize(
    ("record", "room"), [(CLICK, "properties"), (ITEM, "attributes"), (USER, "attributes")]
)
def test_an_unknown_field_does_not_excuse_a_wrong_room(record: dict[str, Any], room: str, wrong: Any) -> None:
    alone = refused({**record, room: wrong})
    assert (alone.code, alone.field) == ("wrong_type", room)
    assert str(refused({**record, room: wrong, "utm": "x"})) == str(alone)


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        (
            {**CLICK, "user_id": None, "items": None, "properties": None, "schema_version": None},
            accepted(CLICK),
        ),
        ({**CLICK, "properties": {"a": None, "b": "x"}}, accepted({**CLICK, "properties": {"b": "x"}})),
        (
            {**ITEM, "title": None, "categories": None, "price": None, "created_at": None},
            Item(item_id="i1"),
        ),
        (
            {**ITEM, "attributes": {"brand": None, "colour": "red"}, "more": None},
            Item(item_id="i1", attributes={"colour": "red"}),
        ),
        ({**USER, "attributes": None, "consent": None}, User(user_id="u1")),
        ({**SHOWN, "items": [{"item_id": "a", "score": None, "rank": None}]}, accepted(SHOWN)),
    ],
)
def test_null_is_absent(fields: dict[str, Any], record: Record) -> None:
    assert accepted(fields) == record


@pytest.mark.parametrize("name", ["event_id", "event_time", "event_type", "session_id"])
def test_a_required_field_that_is_null_is_absent_too(name: str) -> None:
    assert str(refused({**CLICK, name: None})) == f"{name}: required and absent"


def test_unknown_fields_of_slots_are_kept_together_and_told() -> None:
    told: list[tuple[Kind, Sequence[str]]] = []
    contract = Contract(Settings(), lambda: NOW, lambda kind, names: told.append((kind, names)))
    slots = [{"item_id": "a", "rank": 1, "score": 0.5}, {"item_id": "b"}, {"item_id": "c", "ad": True}]
    record = contract.parse({**SHOWN, "items": slots, "utm": "x"})
    assert isinstance(record, Event)
    assert record.items == (ShownItem("a", 0.5), ShownItem("b"), ShownItem("c"))
    assert record.properties == {"utm": "x", "items": '[{"rank":1},{},{"ad":true}]'}
    assert told == [("event", ["utm", "items.rank", "items.ad"])]
    assert accepted({**SHOWN, "items": slots, "utm": "x"}) == record
    # A later version's record is read the same way.
    assert decode(json.dumps({**SHOWN, "items": slots, "utm": "x"}).encode()) == record


def test_a_field_given_twice_must_say_the_same() -> None:
    item = {**ITEM, "attributes": {"brand": "Acme", "size": 3}}
    assert accepted({**item, "brand": "Acme", "size": 3}).attributes == {"brand": "Acme", "size": 3}
    error = refused({**item, "brand": "Other"})
    assert (error.code, error.field) == ("bad_value", 'attributes["brand"]')
    assert "given twice with different values" in str(error)
    assert refused({**CLICK, "properties": {"utm": "a"}, "utm": "b"}).field == 'properties["utm"]'


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({**ITEM, "attributes": {"ok": "x", "größe": {"eu": 42}}}, 'attributes["größe"]'),
        ({**ITEM, "attributes": {"ok": ["x"], "tags": ["x", 1]}}, 'attributes["tags"][1]'),
        ({**USER, "attributes": {"vip": True}}, 'attributes["vip"]'),
        ({**CLICK, "properties": {"a": "x", 'b"c': 1}}, 'properties["b\\"c"]'),
        ({**ITEM, "attributes": {"x" * 500: {}}}, f'attributes["{"x" * 120}…"]'),
    ],
)
def test_the_attribute_that_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    error = refused(fields)
    assert (error.code, error.field) == ("wrong_type", field)
    assert str(error).startswith(f"{field}: expected ")


@pytest.mark.parametrize("code", [12345678901234567890, -(2**53) - 1, 10**400])
@pytest.mark.parametrize("record", [ITEM, USER])
def test_a_number_that_would_lose_digits_is_refused(record: dict[str, Any], code: int) -> None:
    given_ = {**record, "attributes": {"segment": code}}
    with pytest.raises(ContractError, match=r"has more digits than a number keeps; send it as text") as error:
        Contract(Settings(), lambda: NOW).parse(given_)
    if abs(code) < 10**300:  # beyond, JSON text is no number at all
        assert str(refused(given_)) == str(error.value)
    assert (error.value.code, error.value.field) == ("bad_value", 'attributes["segment"]')
    assert accepted({**record, "attributes": {"segment": str(code)}}).attributes == {"segment": str(code)}
    # By itself the field is text, digit by digit.
    assert accepted({**record, "segment": 12345678901234567890}).attributes == {
        "segment": "12345678901234567890"
    }


def test_so_is_such_a_price() -> None:
    error = refused({**ITEM, "price": 2**53 + 1})
    assert (error.code, error.field) == ("bad_value", "price")
    assert "9007199254740993 has more digits" in str(error)
    assert accepted({**ITEM, "price": 2**53}).price == 2**53


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**60, 1e300, 0.1, -0.0])
def test_a_number_that_keeps_its_digits_passes(number: float) -> None:
    assert accepted({**ITEM, "attributes": {"n": number}}).attributes == {"n": number}


MEGABYTE = [
    {**CLICK, **{f"event_{n:x}": 1 for n in range(60_000)}},
    {**{k: v for k, v in CLICK.items() if k != "event_id"}, **{f"evnt_{n:x}": 1 for n in range(60_000)}},
    {**ITEM, "attributes": {**{f"a{n}": "x" for n in range(60_000)}, "z": {}}},
    {**SHOWN, "items": [1] * 500_000},
    {**SHOWN, "items": [{}] * 300_000},
    {**SHOWN, "items": [{"item_id": "a", f"x{n}": n} for n in range(30_000)]},
    {**CLICK, "record": {f"a{n}": "x" for n in range(60_000)}},
    {**CLICK, "event_time": "1" * 1_000_000},
    {**CLICK, "x" * 1_000_000: 1},
]


@pytest.mark.parametrize("fields", MEGABYTE, ids=range(len(MEGABYTE)))
def test_a_megabyte_is_judged_in_no_time(fields: dict[str, Any]) -> None:
    """About 50 ms at worst; the bound leaves room for a slow machine. It took 0.6 to 1.1 s."""
    raw = json.dumps(fields).encode()
    told: list[str] = []
    contract = Contract(Settings(), lambda: NOW, lambda _, names: told.extend(names))
    message = ""
    started = time.process_time()
    try:
        contract.parse(raw)
    except ContractError as error:
        message = f"{error}{error.field}"
    assert time.process_time() - started < 0.4
    assert len(message) < 500
    assert len(told) <= NAMES_TOLD
    assert sum(map(len, told)) < 10_000
