"""The decoder of `POST /v1/rank`: every refusal names code and field, and no other error occurs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.settings import Settings
from serving.schemas.errors import ApiError
from serving.schemas.rank_request import RankRequest, RequestDecoder

DECODER = RequestDecoder(Settings(max_candidates=3, max_id_bytes=16))


def refusal(body: Any) -> ApiError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        DECODER.decode(raw)
    return caught.value


def candidates(*ids: str) -> list[dict[str, Any]]:
    return [{"item_id": i} for i in ids]


def test_a_full_request_is_read() -> None:
    body = {
        "user_id": "u",
        "session_id": "s",
        "query": "q",
        "limit": 2,
        "explain": True,
        "request_id": "r",
        "consent": True,
        "candidates": [{"item_id": "a", "score": 1}, {"item_id": "b"}],
    }
    request = DECODER.decode(json.dumps(body).encode())
    assert request.candidates[0].score == 1.0
    assert request.candidates[1].score is None
    assert (request.user_id, request.limit, request.explain) == ("u", 2, True)


@pytest.mark.parametrize(
    ("item_id", "size"),
    [("ä" * 129, 258), ("\N{GRINNING FACE}" * 65, 260), ("x" * 256, 256), ("ä" * 128, 256)],
)
@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("field", ["user_id", "request_id", "item_id"])
def test_an_id_is_measured_in_bytes_however_it_is_written(
    item_id: str, size: int, ensure_ascii: bool, field: str
) -> None:
    named = {} if field == "item_id" else {field: item_id}
    body = {**named, "candidates": candidates("a", item_id if field == "item_id" else "b")}
    raw = json.dumps(body, ensure_ascii=ensure_ascii).encode()
    decoder = RequestDecoder(Settings())
    if size <= 256:
        assert decoder.decode(raw).candidates
        return
    with pytest.raises(ApiError, match=f"{size} bytes") as caught:
        decoder.decode(raw)
    assert caught.value.field == ("candidates[1].item_id" if field == "item_id" else field)


def test_no_candidates_is_an_answerable_request() -> None:
    assert DECODER.decode(b'{"candidates": []}').candidates == []


@pytest.mark.parametrize(
    ("body", "code", "field", "says"),
    [
        ({}, "missing_field", "candidates", "required"),
        ({"candidates": [{}]}, "missing_field", "candidates[0].item_id", "required"),
        ({"candidates": "a"}, "wrong_type", "candidates", "expected `array`"),
        ({"candidates": [{"item_id": 3}]}, "wrong_type", "candidates[0].item_id", "expected `str`"),
        ({"candidates": [{"item_id": ""}]}, "bad_value", "candidates[0].item_id", "length >= 1"),
        ({"candidates": [], "limit": 0}, "bad_value", "limit", ">= 1"),
        ({"candidates": [], "sesion_id": "s"}, "unknown_field", "sesion_id", "session_id"),
        (
            {"candidates": candidates("a", "b", "a")},
            "duplicate_item",
            "candidates[2].item_id",
            "candidates[0]",
        ),
        ({"candidates": candidates(*"abcd")}, "too_many_candidates", "candidates", "MAX_CANDIDATES"),
        ({"candidates": candidates("x" * 17)}, "id_too_long", "candidates[0].item_id", "17 bytes"),
        ({"candidates": candidates("ä" * 9)}, "id_too_long", "candidates[0].item_id", "18 bytes"),
        ({"candidates": [], "user_id": "x" * 17}, "id_too_long", "user_id", "MAX_ID_BYTES"),
        ([], "wrong_type", "", "expected `object`"),
        (b"{", "not_json", "", "send one JSON object"),
        (b"", "not_json", "", "send one JSON object"),
        (b"\xff\xfe", "not_json", "", "UTF-8"),
        (b'{"candidates": [{"item_id": "a", "score": NaN}]}', "not_json", "", "JSON"),
        (
            b'{"candidates": [{"item_id": "a", "score": 1e999}]}',
            "not_finite",
            "candidates[0].score",
            "out of range",
        ),
        (
            b'{"candidates": [{"item_id": "a", "score": "1"}]}',
            "wrong_type",
            "candidates[0].score",
            "expected",
        ),
    ],
)
def test_a_refusal_names_code_and_field(body: Any, code: str, field: str, says: str) -> None:
    error = refusal(body)
    assert (error.status, error.code, error.field) == (422, code, field)
    assert says in str(error)


def test_the_body_of_a_refusal_is_json() -> None:
    parsed = json.loads(refusal({}).body)
    assert parsed["error"]["code"] == "missing_field"
    assert parsed["error"]["field"] == "candidates"
    assert "candidates" in parsed["error"]["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(RankRequest.__struct_fields__)


def outcome(body: bytes) -> RankRequest | ApiError:
    try:
        return DECODER.decode(body)
    except ApiError as error:
        return error


@given(st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    found = outcome(body)
    if isinstance(found, ApiError):
        assert found.status == 422
        assert json.loads(found.body)["error"]["code"] == found.code


@given(
    st.dictionaries(FIELDS, JSON),
    st.lists(st.fixed_dictionaries({"item_id": JSON, "score": JSON}), max_size=3),
)
def test_whatever_stands_in_known_fields_is_read_or_refused(fields: dict[str, Any], items: list[Any]) -> None:
    found = outcome(json.dumps({"candidates": items, **fields}).encode())
    if isinstance(found, RankRequest):
        ids = [c.item_id for c in found.candidates]
        assert len(set(ids)) == len(ids)
        assert all(len(i.encode()) <= 16 for i in ids)
    else:
        assert found.status == 422
