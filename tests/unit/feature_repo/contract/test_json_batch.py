"""One unreadable record of a batch stays one, and what is kept of it cannot be taken for another."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contract.json_batch import as_json, decode_batch

GOOD = b'{"a": 1}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (rb'{"a": "\ud800"}', {"a": "\ud800"}),
        (rb'{"\udc00x": 1}', {"\udc00x": 1}),
        (b'{"a": "\xff"}', {"a": "\udcff"}),
        (b'{"a": ' + b"1" * 5000 + b"}", {"a": math.inf}),
        (b'{"a": 1e999}', {"a": math.inf}),
        (rb'"\ud800"', "\ud800"),
    ],
)
def test_a_record_that_cannot_be_read_leaves_the_others(bad: bytes, found: Any) -> None:
    assert decode_batch(b"[%s,%s,%s]" % (GOOD, bad, GOOD)) == [{"a": 1}, found, {"a": 1}]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[NaN]", b"[Infinity]", b"{'a': 1}", b"[1,]"])
def test_what_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_batch(body)


def test_nesting_has_an_end() -> None:
    with pytest.raises(RecursionError):
        decode_batch(b"[" * 100_000 + b"]" * 100_000)


@given(JSON)
def test_what_json_holds_is_read_and_written_as_always(value: Any) -> None:
    text = json.dumps(value).encode()
    if b"Infinity" not in text:
        assert decode_batch(text) == value
        assert json.loads(as_json(value)) == value


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {"a": [-math.inf]}, {"a": "\ud800"}, {"a": "\ud800", "b": math.inf, "c": None}],
)
def test_what_json_lacks_cannot_be_read_back(value: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(as_json(value))


def test_cells_of_tables_are_text() -> None:
    cells = {"at": datetime(2024, 6, 1, tzinfo=UTC), "day": date(2024, 6, 1), "none": None, "odd": {1, 2}}
    assert json.loads(as_json(cells)) == {
        "at": "2024-06-01T00:00:00+00:00",
        "day": "2024-06-01",
        "none": None,
        "odd": "{1, 2}",
    }
    assert b"object" in as_json({"odd": object(), ("a", 1): 2})
