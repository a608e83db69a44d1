"""Valid records, mutated: the contract accepts them or says why not, and what it accepts round-trips."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Contract, Record, decode, encode, from_arrow, to_arrow
from feature_repo.errors import ContractError
from feature_repo.settings import Settings

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
VALID: list[dict[str, Any]] = [
    {
        "record": "event", "event_id": "e", "event_type": "impression", "event_time": "2024-06-01T11:00:00Z",
        "session_id": "s", "user_id": "u", "item_id": "i", "request_id": "r",
        "items": [{"item_id": "a", "score": 0.5}, {"item_id": "b"}],
        "position": 3, "query": "shoes", "consent": True, "properties": {"k": "v"},
    },
    {
        "record": "item", "item_id": "i", "title": "T", "categories": ["c", "d"], "price": 2.5,
        "created_at": 1717239600000, "attributes": {"colour": "red", "size": 42, "tags": ["x", "y"]},
    },
    {"record": "user", "user_id": "u", "consent": False, "attributes": {"segment": "new", "age": 40}},
]  # fmt: skip

TEXTS = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["", "²", "--1", "1" * 5000, "x" * 1025, "\ud800", "a\udfff", "\0", "İ", "Σας", "NaN", "1e999"]
)  # fmt: skip
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([5000, 9000]).map(lambda digits: -(10**digits))  # Python refuses to print these
    | st.sampled_from([2**53 + 1, 2**63, 2**64, 10**400, -0.0, math.inf, math.nan, 1e308])
)
ODD = st.sampled_from([Decimal("1.5"), b"\xff", {1: 2}, {("a",): 1}, {1, 2}, object(), NOW, NOW.date()])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | ODD
NAMES = TEXTS | st.sampled_from(
    ["item_id", "record", "attributes", "properties", "segment", "score", "evnt_id"]
)


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


ANYTHING = st.recursive(
    SCALARS | st.just(50).map(deep),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid record with up to four places changed, removed or added."""
    record: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(VALID))))
    for _ in range(draw(st.integers(1, 4))):
        _mutate(draw, record)
    return record


def _mutate(draw: st.DrawFn, place: Any) -> None:
    """Change one place; what is put there is a copy, for the next change may go inside."""
    if isinstance(place, list):
        keys: list[Any] = list(range(len(place)))
    else:
        keys = list(place)
    at = draw(st.sampled_from(keys)) if keys else None
    nested = at is not None and isinstance(place[at], dict | list) and place[at]
    match draw(st.sampled_from(["replace", "remove", "add", *(["inside"] * 3 if nested else [])])):
        case "inside":
            _mutate(draw, place[at])
        case "replace" if at is not None:
            place[at] = deepcopy(draw(ANYTHING))
        case "remove" if at is not None:
            del place[at]
        case _ if isinstance(place, list):
            place.append(deepcopy(draw(ANYTHING)))
        case _:
            place[draw(NAMES)] = deepcopy(draw(ANYTHING))


def check_round_trip(record: Record) -> None:
    raw = encode(record)
    assert decode(raw) == record
    assert Contract(Settings(), lambda: NOW).parse(raw) == record
    table = to_arrow(record.kind, [record], NOW)
    (row,) = table.to_pylist()
    assert encode(_listed(from_arrow(record.kind, row))) == encode(_listed(record))


def _listed(record: Any) -> Any:
    """Text attributes come back from the lake as lists of one, numbers as floats."""
    import msgspec

    if record.kind == "event":
        return record
    attributes = {
        name: [value] if isinstance(value, str) else float(value) if isinstance(value, int) else value
        for name, value in record.attributes.items()
    }
    return msgspec.structs.replace(record, attributes=attributes)


@settings(deadline=None, max_examples=500)
@given(mutated())
@example({**VALID[0], "items": [{"item_id": "a", "rank": 1, "x": None}]})
def test_whatever_comes_is_refused_by_the_contract_or_round_trips(fields: dict[str, Any]) -> None:
    refused: ContractError | None = None
    try:
        check_round_trip(Contract(Settings(), lambda: NOW).parse(fields))
    except ContractError as error:
        refused = error
    if refused is not None:
        assert refused.code
        assert 0 < len(f"{refused}{refused.field}".encode()) < 2_000


@pytest.mark.parametrize(
    ("at", "change"),
    [
        ("event_time", {"event_time": -(10**5000)}),
        ("position", {"position": 10**5000}),
        ("extra", {"extra": deep(100_000)}),
        ("1" * 120 + "…", {"1" * 5000: 10**5000}),
        ("items[0].score", {"items": [{"item_id": "a", "score": 10**5000}]}),
        ("items[0].item_id", {"items": [{"item_id": deep(100_000)}]}),
    ],
)
def test_a_number_too_long_to_print_and_a_value_too_deep_are_refused(at: str, change: dict[str, Any]) -> None:
    with pytest.raises(ContractError) as caught:
        Contract(Settings(), lambda: NOW).parse({**VALID[0], **change})
    assert caught.value.field == at
    assert len(str(caught.value)) < 500


@settings(deadline=None, max_examples=300)
@given(mutated(), st.integers(0, 2**16), st.binary(max_size=3))
def test_so_does_text_with_bytes_changed(fields: dict[str, Any], at: int, put: bytes) -> None:
    try:
        text = json.dumps(fields, default=str).encode()
    except (ValueError, TypeError, RecursionError):
        return
    at %= len(text)
    for raw in (text, text[:at] + put + text[at + len(put) :]):
        with suppress(ContractError):  # another producer may have written it into the log
            decode(raw)
        try:
            record = Contract(Settings(), lambda: NOW).parse(raw)
        except ContractError:
            continue
        check_round_trip(record)


@pytest.mark.parametrize("kind", ["event", "item", "user"])
@given(fields=st.dictionaries(NAMES | st.integers(), ANYTHING, max_size=5))  # type: ignore[arg-type]
def test_so_does_anything_at_all(kind: Any, fields: dict[Any, Any]) -> None:
    try:
        check_round_trip(Contract(Settings(), lambda: NOW).parse(fields, kind))
    except ContractError:
        return
