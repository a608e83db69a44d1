"""What a row becomes: every way to say where a value comes from."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from feature_repo.errors import ContractError
from streaming.mapping.paths import elements, find
from streaming.mapping.reading import parse_mapping
from streaming.mapping.records import Records
from streaming.mapping.times import to_time

BASE = {"a": "view", "t": "2024-05-01T10:00:00Z", "s": "s1", "sku": "i1", "u": "u1"}
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def records(mapping: str, row: dict[str, Any]) -> list[Any]:
    return [record for _, record in Records(parse_mapping(mapping, "m"), "f.csv").of(row)]


def event(fields: str, row: dict[str, Any], more: str = "") -> dict[str, Any]:
    base = {"event_type": '"a"', "event_time": '"t"', "session_id": '"s"'}
    given = dict(line.split(" = ", 1) for line in fields.splitlines() if line)
    lines = "\n".join(f"{name} = {value}" for name, value in {**base, **given}.items())
    (found,) = records(f"[event]\n{lines}\n{more}", {**BASE, **row})
    if isinstance(found, ContractError):
        raise found
    return dict(found)


@pytest.mark.parametrize(
    ("spec", "row", "value"),
    [
        ('"sku"', {}, "i1"),
        ('["x", "sku"]', {"x": ""}, "i1"),
        ('["x", "sku"]', {"x": "first"}, "first"),
        ('"p.id"', {"p": {"id": 7}}, "7"),
        ('"p.id"', {"p": '{"id": "02138"}'}, "02138"),
        ('"p.id"', {"p.id": "column of that name", "p": {"id": 7}}, "column of that name"),
        ('"p.1.id"', {"p": [{"id": 1}, {"id": 2}]}, "2"),
        ('"p.k"', {"p": [{"key": "j", "value": 1}, {"key": "k", "value": {"int_value": 5}}]}, "5"),
        ('"p.k"', {"p": [("k", "of Arrow's map")]}, "of Arrow's map"),
        ('{ value = "all" }', {}, "all"),
        ('{ column = "sku", prefix = "shop-" }', {}, "shop-i1"),
        ('{ column = "x", default = "none" }', {}, "none"),
        ('{ column = ["u", "sku"], join = "/" }', {}, "u1/i1"),
        ('{ column = ["u", "x"], join = "/" }', {}, None),
        ('"sku"', {"sku": float("nan")}, None),
    ],
)
def test_where_a_value_comes_from(spec: str, row: dict[str, Any], value: str | None) -> None:
    assert event(f"item_id = {spec}", row).get("item_id") == value


def test_an_object_is_not_an_id() -> None:
    with pytest.raises(ContractError, match=r"item_id: .* instead of text; name a field in it"):
        event('item_id = "p"', {"p": {"id": 1}})


def test_ids_by_hash_are_the_same_for_the_same_row_only() -> None:
    first, again = event("", {}), event("", {})
    assert first["event_id"] == again["event_id"]
    assert event("", {"s": "s2"})["event_id"] != first["event_id"]
    # Naming one more property must not make every event of the file a new one.
    assert event('properties = ["u"]', {})["event_id"] == first["event_id"]
    named = 'event_id = { column = ["sku", "u"], hash = true }'
    assert event(named, {"t": "2024-05-02T10:00:00Z"})["event_id"] == event(named, {})["event_id"]
    assert event(named, {"u": "u2"})["event_id"] != event(named, {})["event_id"]


@pytest.mark.parametrize(
    ("time", "day"),
    [("2024-05-01T23:59:59Z", "2024-05-01"), ("2024-05-01T23:59:59-02:00", "2024-05-02")],
)
def test_a_session_is_one_users_day_in_utc(time: str, day: str) -> None:
    assert event('session_id = { day_of = "u" }', {"t": time})["session_id"] == f"u1:{day}"


@pytest.mark.parametrize(
    ("value", "form", "zone", "wanted"),
    [
        (1714564800, "epoch_s", None, NOON),
        ("1714564800", "epoch_s", None, NOON),
        ("1714564800.0", "epoch_s", None, NOON),
        (1714564800000, "epoch_ms", None, NOON),
        ("1714564800000000", "epoch_us", None, NOON),
        (1714564800000000000, "epoch_ns", None, NOON),
        ("2024-05-01 12:00:00 UTC", "iso", None, NOON),
        ("2024-05-01 14:00:00", "iso", "Europe/Berlin", NOON),
        ("2024-05-01T12:00:00Z", "iso", "Europe/Berlin", NOON),
        ("01.05.2024 14:00", "%d.%m.%Y %H:%M", "Europe/Berlin", NOON),
        (datetime(2024, 5, 1, 14), "iso", "Europe/Berlin", NOON),  # noqa: DTZ001 - as Parquet has it
        (1714564800000, None, None, 1714564800000),
        ("1714564800000", None, None, 1714564800000),
    ],
)
def test_times(value: Any, form: str | None, zone: str | None, wanted: Any) -> None:
    assert to_time(value, form, zone, "event_time") == wanted


@pytest.mark.parametrize(
    ("value", "form", "message"),
    [
        ("2024-05-01 12:00:00", "iso", "has no time zone; add a zone to the mapping"),
        ("soon", "iso", "'soon' is no ISO 8601 time; change format in the mapping"),
        ("soon", "%d.%m.%Y", r"'soon' is no time like '%d.%m.%Y'"),
        ("soon", "epoch_s", "'soon' is no number of epoch_s"),
        ("NaN", "epoch_s", "'NaN' as epoch_s is outside the range of times"),
        (10**30, "epoch_ms", "as epoch_ms is outside the range of times; is format right"),
    ],
)
def test_times_that_are_none(value: Any, form: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        to_time(value, form, None, "event_time")


def test_types_are_translated_skipped_or_left() -> None:
    types = '[event_types]\nlook = "view"\ngone = { skip = true }\n'
    assert event("", {"a": "look"}, types)["event_type"] == "view"
    assert event("", {"a": "other"}, types)["event_type"] == "other"
    found = Records(
        parse_mapping(f'[event]\nevent_type="a"\nevent_time="t"\nsession_id="s"\n{types}', "m"), "f"
    )
    assert list(found.of({**BASE, "a": "gone"})) == []
    assert dict(found.skipped) == {"event type 'gone'": 1}


def test_a_row_gives_an_event_an_item_and_a_user() -> None:
    mapping = (
        '[event]\nevent_type = "a"\nevent_time = "t"\nsession_id = "s"\nitem_id = "sku"\n'
        '[item]\nitem_id = "sku"\nprice = { column = "p", decimal = "," }\n'
        'categories = { column = "c", split = ">" }\nattributes = ["brand"]\n'
        '[user]\nuser_id = "u"\n[user.attributes]\nland = "country"\n'
    )
    row = {**BASE, "p": "1.234,50", "c": "Shoes > Boots", "brand": "Acme", "country": "NL"}
    _, item, user = records(mapping, {**row, "p": "12,50"})
    assert item == {
        "record": "item",
        "item_id": "i1",
        "price": 12.5,
        "categories": ["Shoes", "Boots"],
        "attributes": {"brand": "Acme"},
    }
    assert user == {"record": "user", "user_id": "u1", "attributes": {"land": "NL"}}
    assert [r["record"] for r in records(mapping, {**row, "sku": ""})] == ["event", "user"]


def test_elements_keep_their_parents_fields() -> None:
    row = {"id": 1, "p": {"list": [{"x": 1}, {"x": 2}], "y": 3}}
    found = elements(row, "p.list")
    assert [(find(r, "id"), find(r, "p.list.x"), find(r, "p.y")) for r in found] == [(1, 1, 3), (1, 2, 3)]
    assert elements({"id": 1}, "p.list") == [{"id": 1}]
    assert row["p"]["list"] == [{"x": 1}, {"x": 2}]  # type: ignore[index] - the row itself is untouched


def test_elements_of_a_row_with_an_id_have_distinct_ids() -> None:
    mapping = (
        'explode = "e"\n[event]\nevent_id = "id"\nevent_type = "a"\nevent_time = "t"\nsession_id = "s"\n'
        'item_id = "e.sku"\n'
    )
    found = records(mapping, {**BASE, "id": "x", "e": [{"sku": 1}, {"sku": 2}]})
    assert [(r["event_id"], r["item_id"]) for r in found] == [("x", "1"), ("x#1", "2")]


def test_a_value_nobody_thought_of_costs_its_row() -> None:
    half = json.loads('"\\ud83d"')
    with pytest.raises(ContractError, match="cannot be read") as error:
        event('event_id = { column = "sku", hash = true }', {"sku": half})
    assert error.value.code == "unreadable_row"


def test_rows_of_no_section_are_counted() -> None:
    mapping = parse_mapping('[user]\nuser_id = "u"\nwhen = { column = "a", in = ["identify"] }\n', "m")
    found = Records(mapping, "f")
    assert list(found.of(BASE)) == []
    assert [kind for kind, _ in found.of({**BASE, "a": "identify"})] == ["user"]
    assert found.skipped.total() == 1
