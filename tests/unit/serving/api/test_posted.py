"""Bodies of records: their elements are counted before they are processed."""

from __future__ import annotations

from typing import Any

import pytest

from serving.api import events, posted
from serving.api.events import records_of
from serving.api.posted import MAX_RECORDS, values_of
from serving.schemas import metarank_shape as metarank
from serving.schemas.errors import ApiError
from serving.schemas.metarank_shape import to_records


def test_an_object_and_an_array() -> None:
    assert values_of(b'{"a": 1}') == [{"a": 1}]
    assert values_of(b'[{"a": 1}, 2]') == [{"a": 1}, 2]
    assert values_of(b"[]") == []


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "not_json"), (b"", "not_json"), (b"[" * 100_000, "not_json"), (b"3", "wrong_type")],
)
def test_what_holds_no_records(body: bytes, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        values_of(body)
    assert (caught.value.status, caught.value.code) == (422, code)


@pytest.mark.parametrize("element", [b"1", b"{}", b"[]"])
def test_too_many_are_refused_before_one_of_them_is_looked_at(
    element: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        pytest.fail("an element was processed")

    monkeypatch.setattr(metarank, "_record", never)
    monkeypatch.setattr(events, "as_json", never)
    monkeypatch.setattr(events, "_event_by_default", never)
    body = b"[" + b",".join([element] * (MAX_RECORDS + 1)) + b"]"
    for read in (records_of, lambda given: to_records(given, set())):
        with pytest.raises(ApiError, match="10001 records; send at most 10000") as caught:
            read(body)
        assert caught.value.code == "too_many_records"


def test_as_many_as_permitted_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posted, "MAX_RECORDS", 3)
    assert len(records_of(b"[{}, {}, 3]")) == 3
