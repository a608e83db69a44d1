"""Metarank's four events in the contract's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Contract, Event, Item, Record, ShownItem, User, decode, encode
from feature_repo.errors import ContractError, SourceError
from feature_repo.settings import Settings
from streaming.sources import InputFile
from streaming.sources.formats.metarank import MetarankSource
from tests.conftest import NOW

AT = {"id": "x1", "timestamp": "1636993834000", "user": "u1", "session": "s1"}


@pytest.fixture
def parse(settings: Settings, clock: Any) -> Any:
    source = MetarankSource(settings.weights)
    contract = Contract(settings, clock)

    def parsed(event: dict[str, Any]) -> Record:
        return contract.parse(source.convert(msgspec.json.encode(event), None))

    return parsed


def test_a_ranking_is_an_impression(parse: Any) -> None:
    shown = [{"id": "1805", "relevancy": 0.5}, {"id": "2387"}]
    event = parse({**AT, "event": "ranking", "items": shown, "fields": [{"name": "query", "value": "socks"}]})
    assert isinstance(event, Event)
    assert (event.event_type, event.event_id, event.request_id, event.query) == (
        "impression",
        "x1",
        "x1",
        "socks",
    )
    assert event.items == (ShownItem("1805", 0.5), ShownItem("2387"))
    assert event.event_time.isoformat() == "2021-11-15T16:30:34+00:00"
    assert (event.user_id, event.session_id, event.properties) == ("u1", "s1", {})


def test_an_interaction_names_the_ranking_it_answers(parse: Any) -> None:
    event = parse(
        {**AT, "event": "interaction", "type": "click", "item": "21", "ranking": "r7", "fields": []}
    )
    assert (event.event_type, event.item_id, event.request_id) == ("click", "21", "r7")


@pytest.mark.parametrize(
    ("named", "kind", "properties"),
    [
        ("purchase", "purchase", {}),
        ("Add-To-Cart", "add_to_cart", {}),
        ("addToCart", "add_to_cart", {}),
        ("buy", "purchase", {}),
        ("trailer watched", "click", {"type": "trailer watched"}),
    ],
)
def test_types_of_interaction(parse: Any, named: str, kind: str, properties: dict[str, str]) -> None:
    event = parse({**AT, "event": "interaction", "type": named, "item": "21"})
    assert (event.event_type, event.properties) == (kind, properties)


def test_a_registered_type_is_kept_apart() -> None:
    source = MetarankSource({"trailer_watched": 1.0})
    raw = source.convert({**AT, "event": "interaction", "type": "trailer watched", "item": "2"}, None)
    assert not isinstance(raw, bytes)
    assert (raw["event_type"], raw["properties"]) == ("trailer_watched", {})


def test_an_item_has_attributes_of_three_sorts(parse: Any) -> None:
    values = {
        "title": "Grumpier Old Men",
        "genres": ["romance", "comedy"],
        "release_date": 8.195904e8,
        "budget": 2.5e7,
        "director": "howard deutch",
        "tags": ["fishing", "sequel"],
        "adult": False,
        "years": [1995, 1996],
        "gone": None,
        "price": 9.5,
    }
    fields = [{"name": n, "value": v} for n, v in values.items()]
    item = parse({"id": "e", "item": "3", "timestamp": "1636907100000", "fields": fields, "event": "item"})
    assert isinstance(item, Item)
    assert (item.item_id, item.title, item.categories) == ("3", "Grumpier Old Men", ("romance", "comedy"))
    assert item.price == 9.5
    assert item.created_at is not None
    assert item.created_at.isoformat() == "1995-12-22T00:00:00+00:00"
    assert item.attributes == {
        "release_date": 8.195904e8,
        "budget": 2.5e7,
        "director": "howard deutch",
        "tags": ["fishing", "sequel"],
        "adult": "false",
        "years": ["1995", "1996"],
    }


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("1995-12-22", "1995-12-22T00:00:00+00:00"),
        (819590400000, "1995-12-22T00:00:00+00:00"),
        (-86400, "1969-12-31T00:00:00+00:00"),
        ("soon", None),
        (1e300, None),
        (0, None),
        (["1995"], None),
    ],
)
def test_a_date_is_taken_when_it_is_one(parse: Any, value: Any, date: str | None) -> None:
    fields = [{"name": "release_date", "value": value}]
    item = parse({"id": "e", "item": "3", "timestamp": "1", "fields": fields, "event": "item"})
    assert (item.created_at.isoformat() if item.created_at else None) == date


def test_one_genre_is_a_category(parse: Any) -> None:
    item = parse({"item": "3", "fields": [{"name": "genre", "value": "drama"}], "event": "item"})
    assert item.categories == ("drama",)


def test_a_user(parse: Any) -> None:
    fields = [{"name": "age", "value": 30}, {"name": "gender", "value": "f"}]
    user = parse({**AT, "event": "user", "fields": fields})
    assert user == User(user_id="u1", attributes={"age": 30.0, "gender": "f"})


def test_an_event_may_lack_session_and_user(parse: Any) -> None:
    event = {"id": "x1", "timestamp": 1636993834000, "event": "interaction", "type": "click", "item": "1"}
    assert (parse(event).session_id, parse(event).user_id) == ("x1", None)
    assert parse({**event, "user": "u1"}).session_id == "u1"


@pytest.mark.parametrize(
    ("event", "code", "words"),
    [
        ({"event": "view"}, "bad_value", "'view' is none of item, user, ranking, interaction"),
        ({}, "bad_value", "event: None is none of"),
        ({"event": "item"}, "missing_field", "item: required and absent"),
        ({"event": "user"}, "missing_field", "user: required and absent"),
        ({**AT, "event": "ranking"}, "missing_field", "items: a ranking lists what was shown"),
        ({**AT, "event": "ranking", "items": [1]}, "missing_field", "items: 1 has no id"),
        ({**AT, "event": "interaction", "item": "1"}, "missing_field", "type: required and absent"),
        ({**AT, "event": "interaction", "type": "click"}, "missing_field", "item: required and absent"),
        ({"event": "item", "item": "1", "fields": {"a": 1}}, "wrong_type", "fields: must be a list"),
        ({"event": "ranking", "items": [], "id": "1"}, "missing_field", "timestamp: required and absent"),
    ],
)
def test_an_event_that_lacks_something_says_what(event: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        MetarankSource(()).convert(event, None)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("raw", "code"), [(b"[1]", "not_an_object"), (b"{", "not_json"), (b'{"\xff"', "not_utf8")]
)
def test_a_line_that_is_no_object_says_so(raw: bytes, code: str) -> None:
    with pytest.raises(ContractError) as caught:
        MetarankSource(()).convert(raw, None)
    assert caught.value.code == code


def test_empty_lines_are_passed_over_and_folders_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n  \n{"b": 2}\n')
    rows = list(MetarankSource(()).rows(InputFile(tmp_path / "a.jsonl"), None))
    assert [(r.line, r.raw) for r in rows] == [(1, b'{"a": 1}'), (4, b'{"b": 2}')]
    with pytest.raises(SourceError, match="a folder; give the event file in it"):
        MetarankSource(()).files(InputFile(tmp_path))


def test_the_score_may_be_a_field_of_the_item_and_its_other_fields_are_kept(parse: Any) -> None:
    shown = [
        {"id": "p3", "fields": [{"name": "relevancy", "value": 2.0}, {"name": "rank", "value": 7}]},
        {"id": "p1", "fields": [{"name": "relevancy", "value": 1}], "ad": True},
        {"id": "p2", "relevancy": None, "fields": None},
        {"id": "p4", "relevancy": 0.5, "fields": [{"name": "relevancy", "value": 9}]},
    ]
    event = parse({**AT, "event": "ranking", "items": shown})
    assert event.items == (
        ShownItem("p3", 2.0),
        ShownItem("p1", 1.0),
        ShownItem("p2"),
        ShownItem("p4", 0.5),
    )
    assert event.properties == {"items": '[{"rank":7},{"ad":true},{},{}]'}


@pytest.mark.parametrize("fields", ["x", [1], [{"value": 1}], [{"name": 3}]])
def test_wrong_fields_of_an_item_are_named(parse: Any, fields: Any) -> None:
    with pytest.raises(ContractError, match=r"items\[1\]\.fields: must be a list of") as caught:
        parse({**AT, "event": "ranking", "items": [{"id": "a"}, {"id": "b", "fields": fields}]})
    assert caught.value.field == "items[1].fields"


def test_what_stands_beside_the_fields_is_kept(parse: Any) -> None:
    click = {**AT, "event": "interaction", "type": "click", "item": "21", "utm": {"source": "x"}, "n": None}
    assert parse(click).properties == {"utm": '{"source":"x"}'}
    assert parse({**AT, "event": "item", "item": "21", "brand": "Acme"}).attributes == {"brand": "Acme"}
    assert parse({**AT, "event": "user", "vip": True}).attributes == {"vip": "true"}


def test_values_in_lists_are_text_and_no_other_type_becomes_text(parse: Any) -> None:
    def item(value: Any) -> Any:
        return parse({**AT, "event": "item", "item": "21", "fields": [{"name": "tags", "value": value}]})

    assert item(["a", 1, 2.5, True]).attributes == {"tags": ["a", "1", "2.5", "true"]}
    for wrong in ([None], [{}], {"a": 1}):
        with pytest.raises(ContractError, match=r'attributes\["tags"\]'):
            item(wrong)
    listed = [{"name": "sizes", "value": ["s", "m"]}]
    click = parse({**AT, "event": "interaction", "type": "click", "item": "21", "fields": listed})
    assert click.properties == {"sizes": '["s","m"]'}


@pytest.mark.parametrize(
    "stamp", ["1636993834000", 1636993834000, 1636993834000.0, "2021-11-15T17:30:34+01:00"]
)
def test_a_time_is_milliseconds_or_iso(parse: Any, stamp: Any) -> None:
    event = parse({**AT, "timestamp": stamp, "event": "interaction", "type": "click", "item": "1"})
    assert event.event_time.isoformat() == "2021-11-15T16:30:34+00:00"


@pytest.mark.parametrize("stamp", ["²", "--1", "1" * 5000, "1_000", "soon", "2021-11-15T16:30:34"])
def test_a_time_that_is_neither_is_refused(parse: Any, stamp: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse({**AT, "timestamp": stamp, "event": "interaction", "type": "click", "item": "1"})
    assert (caught.value.code, caught.value.field) == ("bad_value", "timestamp")
    assert len(str(caught.value)) < 300


SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(SCALAR, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v))
KEYS = ("event", "id", "timestamp", "user", "session", "items", "fields", "type", "item", "tenant", "x")
FIELDS = st.lists(st.fixed_dictionaries({"name": st.text(max_size=3), "value": VALUES}), max_size=2)
SLOTS = st.lists(
    st.fixed_dictionaries(
        {"id": st.text(max_size=3)}, optional={"fields": FIELDS | VALUES, "relevancy": VALUES}
    )
)


@settings(deadline=None)
@given(
    st.sampled_from(["item", "user", "ranking", "interaction"]),
    st.dictionaries(st.sampled_from(KEYS), VALUES | FIELDS | SLOTS),
    st.dictionaries(st.sampled_from(KEYS), VALUES),
)
def test_whatever_comes_is_a_record_or_a_contract_error(
    kind: str, some: dict[str, Any], others: dict[str, Any]
) -> None:
    given_ = {**AT, "event": kind, "items": [{"id": "a"}], "item": "i", "type": "click", **some, **others}
    source, contract = MetarankSource(Settings().weights), Contract(Settings(), lambda: NOW)
    try:
        record = contract.parse(source.convert(given_, None))
    except ContractError:
        return
    assert decode(encode(record)) == record
