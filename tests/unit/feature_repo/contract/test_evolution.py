"""Which contract may follow which: every sort of change, passing and failing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from feature_repo.contract.evolution import Change, compare
from feature_repo.contract.validation import json_schema

Edit = Callable[[dict[str, Any]], object]


def edited(edit: Edit) -> dict[str, Any]:
    schema: dict[str, Any] = copy.deepcopy(json_schema())
    edit(schema["$defs"]["Event"]["properties"])
    return schema


def changes(edit: Edit) -> list[Change]:
    return compare(edited(lambda _: None), edited(edit))


def test_a_contract_follows_itself() -> None:
    assert compare(json_schema(), json_schema()) == []


COMPATIBLE: list[tuple[str, Edit, str, str]] = [
    (
        "optional",
        lambda p: p.update(channel={"type": "string", "default": ""}),
        "Event.channel",
        "added as optional",
    ),
    ("longer", lambda p: p["query"]["anyOf"][0].update(maxLength=4096), "Event.query", "1024 became 4096"),
    (
        "lower",
        lambda p: p["schema_version"]["anyOf"][0].update(minimum=0),
        "Event.schema_version",
        "minimum 1 became 0",
    ),
    (
        "next version",
        lambda p: p["schema_version"]["anyOf"][0].update(maximum=2),
        "Event.schema_version",
        "1 became 2",
    ),
    ("unbounded", lambda p: p["query"]["anyOf"][0].pop("maxLength"), "Event.query", "1024 became none"),
    ("any pattern", lambda p: p["event_type"].pop("pattern"), "Event.event_type", "pattern dropped"),
    (
        "one more type",
        lambda p: p["query"]["anyOf"].append({"type": "integer"}),
        "Event.query",
        "may now be integer",
    ),
    (
        "wider number",
        lambda p: p["schema_version"]["anyOf"][0].update(type="number"),
        "Event.schema_version",
        "widened to number",
    ),
    ("one more value", lambda p: p["record"]["enum"].append("order"), "Event.record", "now allows 'order'"),
]

BREAKING: list[tuple[str, Edit, str, str]] = [
    ("removed", lambda p: p.pop("query"), "Event.query", "removed: old records carry it"),
    ("renamed", lambda p: p.update(search=p.pop("query")), "Event.query", "perhaps renamed to search"),
    ("no longer null", lambda p: p["user_id"]["anyOf"].pop(1), "Event.user_id", "no longer null"),
    ("another type", lambda p: p["event_id"].update(type="integer"), "Event.event_id", "no longer string"),
    ("shorter", lambda p: p["event_id"].update(maxLength=36), "Event.event_id", "maxLength 256 became 36"),
    ("bounded", lambda p: p["event_type"].update(maxLength=8), "Event.event_type", "maxLength none became 8"),
    ("higher", lambda p: p["position"]["anyOf"][0].update(minimum=1), "Event.position", "minimum 0 became 1"),
    (
        "another pattern",
        lambda p: p["event_type"].update(pattern="^x$"),
        "Event.event_type",
        "pattern changed",
    ),
    ("another default", lambda p: p["consent"].update(default=True), "Event.consent", "None to True"),
    ("one value less", lambda p: p["record"].update(enum=[]), "Event.record", "no longer allows 'event'"),
    (
        "inner",
        lambda p: p["properties"]["anyOf"][0].update(additionalProperties={"type": "integer"}),
        "Event.properties[]",
        "no",
    ),
    (
        "closed",
        lambda p: p["properties"]["anyOf"][0].update(additionalProperties=False),
        "Event.properties",
        "to be kept",
    ),
]


@pytest.mark.parametrize(
    ("edit", "path", "words"), [c[1:] for c in COMPATIBLE], ids=[c[0] for c in COMPATIBLE]
)
def test_what_keeps_old_records_valid_is_compatible(edit: Edit, path: str, words: str) -> None:
    found = changes(edit)
    assert [c for c in found if c.path == path and words in c.what]
    assert all(c.compatible for c in found)


@pytest.mark.parametrize(("edit", "path", "words"), [c[1:] for c in BREAKING], ids=[c[0] for c in BREAKING])
def test_what_breaks_old_records_is_named_with_the_reason(edit: Edit, path: str, words: str) -> None:
    assert [c for c in changes(edit) if not c.compatible and c.path == path and words in c.what]


def test_a_field_that_becomes_required_breaks_and_one_that_becomes_optional_does_not() -> None:
    old, new = json_schema(), copy.deepcopy(json_schema())
    new["$defs"]["Item"]["required"].append("title")
    assert compare(old, new) == [
        Change("Item.title", False, "became required: old records that leave it out would be refused")
    ]
    assert compare(new, old) == [Change("Item.title", True, "became optional")]


def test_a_new_required_field_breaks() -> None:
    new = copy.deepcopy(json_schema())
    new["$defs"]["User"]["properties"]["tenant"] = {"type": "string"}
    new["$defs"]["User"]["required"].append("tenant")
    assert compare(json_schema(), new) == [
        Change("User.tenant", False, "added as required: old records lack it")
    ]


def test_a_kind_of_record_may_come_but_not_go() -> None:
    new = copy.deepcopy(json_schema())
    new["$defs"]["Order"] = {"type": "object"}
    new["anyOf"].append({"$ref": "#/$defs/Order"})
    assert all(c.compatible for c in compare(json_schema(), new))
    gone = compare(new, json_schema())
    assert Change("Order", False, "removed: records of this kind would be refused") in gone
    assert Change("record", False, "no longer Order: such old values would be refused") in gone
