"""The published JSON Schema and the validation say the same, checked with an independent validator."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Contract, encode, json_schema
from feature_repo.errors import ContractError
from feature_repo.settings import Settings
from tests.support.events_strategy import World, worlds
from tests.support.records import CLICK

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
SHAPE = {"missing_field", "wrong_type", "bad_value", "not_an_object"}
"""Reasons a schema can tell; others need the clock, the settings or a second field."""


def refused(fields: Any) -> ContractError | None:
    try:
        Contract(Settings(), lambda: NOW).parse(json.dumps(fields))
    except ContractError as error:
        return error
    return None


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@settings(deadline=None, max_examples=40)
@given(worlds())
def test_every_record_we_write_fits_the_schema(world: World) -> None:
    for record in (*world.events, *world.items, *world.users):
        VALIDATOR.validate(json.loads(encode(record)))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"extra": {"any": ["thing"]}},
        {"event_time": 1717239600000},
        {"user_id": None},
        {"position": 0},
        {"properties": {"a": "b"}},
        {"consent": False},
    ],
)
def test_what_fits_the_schema_passes(changed: dict[str, Any]) -> None:
    fields = {**CLICK, **changed}
    VALIDATOR.validate(fields)
    assert refused(fields) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"event_id": ""},
        {"event_id": 5},
        {"event_id": None},
        {"event_id": "x" * 300},
        {"session_id": []},
        {"event_type": "Not A Type"},
        {"event_time": [1]},
        {"position": -1},
        {"position": "first"},
        {"items": [{"score": 1}]},
        {"items": ["i1"]},
        {"items": {"item_id": "i1"}},
        {"consent": "yes"},
        {"properties": {"a": 1}},
        {"properties": []},
        {"schema_version": 0},
        {"record": "order"},
    ],
)
def test_what_does_not_fit_the_schema_is_refused(changed: dict[str, Any]) -> None:
    fields = {**CLICK, **changed}
    assert not VALIDATOR.is_valid(fields)
    error = refused(fields)
    assert error is not None
    assert error.code in SHAPE


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
fields_of_events = [
    f for f in json_schema()["$defs"]["Event"]["properties"] if f not in ("record", "event_time")
]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(fields_of_events), json_values)
def test_one_field_of_any_value_is_judged_alike(name: str, value: Any) -> None:
    fields = {**CLICK, name: value}
    error = refused(fields)
    if VALIDATOR.is_valid(fields):
        assert error is None or error.code not in {"wrong_type", "not_an_object"}
    else:
        assert error is not None
