"""The event contract: what passes, what is refused and with which words, and the schemas derived from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import (
    Contract,
    Event,
    Item,
    Kind,
    Record,
    ShownItem,
    User,
    arrow_schema,
    decode,
    encode,
    from_arrow,
    json_schema,
    to_arrow,
)
from feature_repo.errors import ContractError
from feature_repo.settings import Settings
from tests.support.events_strategy import World, worlds
from tests.support.records import CLICK

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
SCHEMA = Path(__file__).resolve().parents[4] / "docs" / "event.schema.json"


@pytest.fixture
def contract(clock: Callable[[], datetime]) -> Contract:
    return Contract(Settings(), clock)


def parsed(contract: Contract, fields: dict[str, Any], kind: Kind | None = None) -> Record:
    """The record, the same whether it came as an object or as text."""
    record = contract.parse(fields, kind)
    assert contract.parse(json.dumps(fields).encode(), kind) == record
    return record


def test_a_click(contract: Contract) -> None:
    assert parsed(contract, CLICK) == Event(
        event_id="e1",
        event_type="click",
        event_time=datetime(2024, 6, 1, 11, tzinfo=UTC),
        session_id="s1",
        item_id="i1",
    )


@pytest.mark.parametrize(
    "time", ["2024-06-01T11:00:00Z", "2024-06-01T13:00:00+02:00", 1717239600000, "2024-06-01 11:00:00+00:00"]
)
def test_times_become_utc(contract: Contract, time: str | int) -> None:
    record = parsed(contract, {**CLICK, "event_time": time})
    assert isinstance(record, Event)
    assert record.event_time == datetime(2024, 6, 1, 11, tzinfo=UTC)
    assert record.event_time.utcoffset() == timedelta(0)


def test_fields_it_does_not_know_are_kept_as_text_and_told(clock: Callable[[], datetime]) -> None:
    told: list[tuple[Kind, list[str]]] = []
    contract = Contract(Settings(), clock, lambda kind, names: told.append((kind, list(names))))
    record = contract.parse({**CLICK, "device": "phone", "tries": 3, "gone": None})
    assert isinstance(record, Event)
    assert record.properties == {"device": "phone", "tries": "3"}
    assert told == [("event", ["device", "tries", "gone"])]
    contract.parse(CLICK)
    assert len(told) == 1
    with pytest.raises(ContractError):  # of a record that is refused nothing is kept
        contract.parse({**CLICK, "event_type": "wink", "device": "phone"})
    assert len(told) == 1


def test_a_file_of_one_kind_need_not_say_so(contract: Contract) -> None:
    assert parsed(contract, {"item_id": "i1", "color": "red"}, "item") == Item(
        item_id="i1", attributes={"color": "red"}
    )
    assert parsed(contract, {"user_id": "u1"}, "user") == User(user_id="u1")


BAD: list[tuple[str, Any, str, str, str]] = [
    ("no JSON", b'{"a": ', "not_json", "", "not valid JSON: .*; write one JSON object per line"),
    ("not UTF-8", b'{"a": "\xff"}', "not_utf8", "", "not valid UTF-8 .*; save the file in UTF-8"),
    ("an array", b"[1]", "not_an_object", "", "a JSON array where an object belongs"),
    ("a text", b'"x"', "not_an_object", "", "a JSON string where an object belongs"),
    ("a null", b"null", "not_an_object", "", "a JSON null where an object belongs"),
    ("a number", b"1", "not_an_object", "", "a JSON number where an object belongs"),
    ("no record", {"event_id": "e"}, "missing_field", "record", '"record": "event", "item" or "user"'),
    ("another record", {**CLICK, "record": "order"}, "bad_value", "record", "'order'"),
    ("an object as record", {**CLICK, "record": {"a": 1}}, "bad_value", "record", "{'a': 1}"),
    ("a list as record", {**CLICK, "record": [["event"]]}, "bad_value", "record", "each object says"),
    ("no id", {k: v for k, v in CLICK.items() if k != "event_id"}, "missing_field", "event_id", "absent"),
    (
        "a misspelt id",
        {("evnt_id" if k == "event_id" else k): v for k, v in CLICK.items()},
        "missing_field",
        "event_id",
        "event_id: required and absent; rename 'evnt_id', which is no field",
    ),
    ("an empty id", {**CLICK, "event_id": ""}, "bad_value", "event_id", "length >= 1"),
    ("an id of a number", {**CLICK, "event_id": 7}, "wrong_type", "event_id", "expected `str`, got `int`"),
    (
        "a long id",
        {**CLICK, "session_id": "é" * 200},
        "id_too_long",
        "session_id",
        "400 bytes; .* at most 256",
    ),
    (
        "another type",
        {**CLICK, "event_type": "wink"},
        "unknown_event_type",
        "event_type",
        "EVENT_WEIGHTS=wink=1",
    ),
    (
        "1970",
        {**CLICK, "event_time": 1717239600},
        "time_out_of_range",
        "event_time",
        r"1970-01-20.*not seconds",
    ),
    (
        "3000",
        {**CLICK, "event_time": "3000-01-01T00:00:00Z"},
        "time_out_of_range",
        "event_time",
        "3000-01-01",
    ),
    ("no zone", {**CLICK, "event_time": "2024-06-01T11:00:00"}, "bad_value", "event_time", "no time zone"),
    ("no time", {**CLICK, "event_time": "noon"}, "bad_value", "event_time", "'noon' is no ISO 8601 time"),
    ("a huge time", {**CLICK, "event_time": 1e300}, "time_out_of_range", "event_time", "no time in epoch"),
    (
        "the first hour",
        {**CLICK, "event_time": "0001-01-01T00:00:00+02:00"},
        "time_out_of_range",
        "event_time",
        r"0001-01-01T00:00:00\+02:00 is outside the years 1 to 9999 in UTC",
    ),
    (
        "the last hour",
        b'{"record":"event","event_id":"e","event_type":"click","event_time":"9999-12-31T23:59:59-02:00",'
        b'"session_id":"s","item_id":"i"}',
        "time_out_of_range",
        "event_time",
        "outside the years 1 to 9999 in UTC",
    ),
    ("a true time", {**CLICK, "event_time": True}, "wrong_type", "event_time", "expected `datetime`"),
    (
        "no item",
        {k: v for k, v in CLICK.items() if k != "item_id"},
        "missing_field",
        "item_id",
        "a click must",
    ),
    ("nothing shown", {**CLICK, "event_type": "impression"}, "missing_field", "items", "what was shown"),
    ("nothing asked", {**CLICK, "event_type": "search"}, "missing_field", "query", "what was asked"),
    ("a position below 0", {**CLICK, "position": -1}, "bad_value", "position", ">= 0"),
    ("a number as property", {**CLICK, "properties": {"a": 1}}, "wrong_type", 'properties["a"]', "`str`"),
    ("a version to come", {**CLICK, "schema_version": 2}, "bad_value", "schema_version", "<= 1"),
    ("a price below 0", {"record": "item", "item_id": "i", "price": -1}, "bad_value", "price", ">= 0"),
    (
        "an infinite price",
        {"record": "item", "item_id": "i", "price": float("inf")},
        "not_finite",
        "price",
        "inf",
    ),
]


@pytest.mark.parametrize(("raw", "code", "field", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_refused_is_told_by_code_field_and_words(
    contract: Contract, raw: Any, code: str, field: str, words: str
) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        contract.parse(raw)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_a_score_that_is_no_number_is_refused(contract: Contract) -> None:
    shown = {**CLICK, "event_type": "impression", "items": [{"item_id": "i1", "score": float("nan")}]}
    with pytest.raises(ContractError, match=r"items\.score: nan of 'i1' is not a finite number"):
        contract.parse(shown)


def test_a_file_of_one_kind_holds_no_other(contract: Contract) -> None:
    with pytest.raises(ContractError, match="'event' in a file of items"):
        contract.parse(CLICK, "item")
    with pytest.raises(ContractError, match="'event' in a file of items"):
        contract.parse(json.dumps(CLICK), "item")


def test_the_bound_on_the_future_moves_with_the_clock() -> None:
    now = [NOW]
    contract = Contract(Settings(future_tolerance_s=0), lambda: now[0])
    soon = {**CLICK, "event_time": "2024-06-01T12:00:01Z"}
    with pytest.raises(ContractError, match="outside"):
        contract.parse(soon)
    now[0] += timedelta(seconds=1)
    assert isinstance(contract.parse(soon), Event)


@settings(deadline=None)
@given(worlds())
def test_bytes_and_columns_hold_every_record_without_loss(world: World) -> None:
    by_kind: dict[Kind, list[Any]] = {"event": world.events, "item": world.items, "user": world.users}
    for kind, records in by_kind.items():
        assert [decode(encode(r)) for r in records] == records
        table = to_arrow(kind, records, NOW)
        assert table.schema == arrow_schema(kind)
        table.validate(full=True)
        back = [from_arrow(kind, row) for row in table.to_pylist()]
        if kind == "event":
            assert back == records
        else:  # a text attribute comes back as a list of one
            assert [_listed(r) for r in back] == [_listed(r) for r in records]


def _listed(record: Any) -> Any:
    attributes = {k: [v] if isinstance(v, str) else v for k, v in record.attributes.items()}
    return (encode(record), attributes) if not attributes else (type(record), attributes)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["event_id", "event_type", "event_time", "items", "x"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=2),
    )
)
def test_whatever_comes_is_a_record_or_a_contract_error(fields: dict[str, Any]) -> None:
    contract = Contract(Settings(), lambda: NOW)
    for kind in ("event", "item", "user"):
        with suppress(ContractError):
            assert contract.parse(fields, kind).kind == kind  # type: ignore[arg-type]


def test_properties_and_shown_items_stand_in_the_lake_as_maps_and_structs() -> None:
    event = Event(
        event_id="e",
        event_type="impression",
        event_time=NOW,
        session_id="s",
        items=(ShownItem("a", 0.5), ShownItem("b")),
        properties={"k": "v"},
    )
    (row,) = to_arrow("event", [event], NOW).to_pylist()
    assert row["items"] == [{"item_id": "a", "score": 0.5}, {"item_id": "b", "score": None}]
    assert row["properties"] == [("k", "v")]
    assert row["ingested_at"] == NOW
    assert arrow_schema("event").field("event_time").type == pa.timestamp("us", tz="UTC")


def test_a_record_of_a_later_version_is_read_and_what_is_new_is_kept() -> None:
    later = {**CLICK, "schema_version": 2, "channel": "mail"}
    record = decode(json.dumps(later).encode())
    assert isinstance(record, Event)
    assert (record.schema_version, record.properties) == (1, {"channel": "mail"})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"record": "order"}',
        b'{"record": "user", "x": 1}',
        b'{"record": "user", "user_id": "\xff"}',
        b'{"record": "user", "user_id": "a", "x": "\xff"}',
        b'{"record": "user", "user_id": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_bytes_that_are_no_record_are_an_error(raw: bytes) -> None:
    with pytest.raises(ContractError):
        decode(raw)


def test_the_published_schema_is_the_contract() -> None:
    """A change of the contract shows in the diff of docs/event.schema.json.

    Check it with `headrace contract check` and publish it with `headrace contract schema > docs/…`.
    """
    assert json.loads(SCHEMA.read_text()) == json_schema()


def test_the_schema_says_what_validation_does() -> None:
    events = json_schema()["$defs"]["Event"]
    assert events["required"] == ["record", "event_id", "event_type", "event_time", "session_id"]
    assert "additionalProperties" not in events  # unknown fields are kept
    assert {"type": "integer", "description": "epoch milliseconds"} in events["properties"]["event_time"][
        "anyOf"
    ]


@pytest.mark.parametrize("kind", ["search", "click", "impression"])
@pytest.mark.parametrize("written", ["canonical", "loose"])
def test_of_an_event_that_denies_consent_the_query_is_not_kept(kind: str, written: str) -> None:
    contract = Contract(Settings(), lambda: datetime(2024, 6, 1, 12, tzinfo=UTC))
    fields = {
        "record": "event",
        "event_id": "e1",
        "event_type": kind,
        "event_time": "2024-06-01T12:00:00Z" if written == "canonical" else "2024-06-01T13:00:00+01:00",
        "session_id": "s",
        "item_id": "i1",
        "items": [{"item_id": "i1"}],
        "query": "a secret",
    }
    nothing = "" if kind == "search" else None
    for consent, kept in ((False, nothing), (True, "a secret"), (None, "a secret")):
        record = contract.parse(json.dumps({**fields, "consent": consent}))
        assert isinstance(record, Event)
        assert record.query == kept
        assert contract.parse(encode(record)) == record, "what was kept passes the door again"
