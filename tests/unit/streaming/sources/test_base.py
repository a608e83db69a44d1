"""What all formats share: required fields, times, ids, the bytes kept of a row."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import ContractError
from streaming.sources.source import epoch_seconds, fields_of, identity, raw_bytes, required


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(-9, 9) | st.none(), max_size=4))
def test_cells_are_kept_as_json_that_reads_back(cells: dict[str, Any]) -> None:
    assert json.loads(raw_bytes(cells)) == cells
    assert fields_of(raw_bytes(cells)) == cells
    assert fields_of(cells) == cells


@given(st.binary(max_size=30))
def test_bytes_are_kept_as_they_are(raw: bytes) -> None:
    assert raw_bytes(raw) is raw


def test_times_and_other_values_of_parquet_are_kept_as_text() -> None:
    kept = json.loads(raw_bytes({"t": datetime(2024, 1, 1, tzinfo=UTC), "z": 1 + 2j}))
    assert datetime.fromisoformat(kept["t"]) == datetime(2024, 1, 1, tzinfo=UTC)
    assert kept["z"] == "(1+2j)"


@pytest.mark.parametrize(("fields", "value"), [({"a": "x"}, "x"), ({"a": 0}, "0"), ({"a": False}, "False")])
def test_a_required_field_comes_as_text(fields: dict[str, Any], value: str) -> None:
    assert required(fields, "a") == value


@pytest.mark.parametrize("fields", [{}, {"a": None}, {"a": ""}])
def test_a_required_field_that_is_absent_is_told(fields: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="a: required and absent") as caught:
        required(fields, "a")
    assert (caught.value.code, caught.value.field) == ("missing_field", "a")


@pytest.mark.parametrize(
    ("value", "milliseconds"), [("1704067200", 1704067200000), (1.5, 1500), ("-1", -1000), ("1e3", 1000000)]
)
def test_epoch_seconds_become_milliseconds(value: Any, milliseconds: int) -> None:
    assert epoch_seconds({"t": value}, "t") == milliseconds


@pytest.mark.parametrize("value", ["noon", "inf", "nan", "2024-01-01"])
def test_what_is_no_epoch_is_told(value: str) -> None:
    with pytest.raises(
        ContractError, match=f"t: '{value}' is no time in epoch seconds; 2024-01-01 is 1704067200"
    ):
        epoch_seconds({"t": value}, "t")


@given(st.lists(st.text(max_size=4), min_size=1), st.lists(st.text(max_size=4), min_size=1))
def test_an_identity_is_of_its_parts(one: list[str], two: list[str]) -> None:
    if "\0" not in "".join(one + two):
        assert (identity(*one) == identity(*two)) == (one == two)


def test_an_identity_stays_for_ever() -> None:
    """Ids are in lakes already: a change of this function would make every row new."""
    assert identity("1465413032", "VIEW", "-3499919498720038879", "-8845298781299428018") == (
        "e3a42a64247ab585e21552fa5aa3cc82"
    )


@pytest.mark.parametrize(
    ("raw", "words"), [(b"[1]", "a JSON array"), (b"3", "a JSON number"), (b"", "not valid JSON")]
)
def test_text_that_is_no_object_is_told(raw: bytes, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        fields_of(raw)
