"""Keys, fields and rows as Feast lays them out, against Feast's own functions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import StoreError
from feature_repo.groups import all_groups
from feature_repo.online.layout import (
    PROJECT,
    entity_key,
    field_hash,
    layout_of,
    redis_key,
    table_name,
    time_field,
)
from feature_repo.online.timestamps import encode_time

helpers = pytest.importorskip("feast.infra.online_stores.helpers")
encoding = pytest.importorskip("feast.infra.key_encoding_utils")
entity_pb = pytest.importorskip("feast.protos.feast.types.EntityKey_pb2")
value_pb = pytest.importorskip("feast.protos.feast.types.Value_pb2")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SESSION = all_groups()["session_profile"]
T0 = datetime(2024, 6, 1, 12, tzinfo=UTC)


@given(TEXT.filter(bool), TEXT)
def test_entity_keys_are_feasts(join_key: str, value: str) -> None:
    proto = entity_pb.EntityKey(join_keys=[join_key], entity_values=[value_pb.Value(string_val=value)])
    assert entity_key(join_key, value) == encoding.serialize_entity_key(proto, 3)
    assert redis_key(join_key, value) == helpers._redis_key(PROJECT, proto, 3)


@given(TEXT, TEXT)
def test_field_hashes_are_feasts(view: str, feature: str) -> None:
    assert field_hash(view, feature) == helpers._mmh3(f"{view}:{feature}")


def test_names_of_table_and_time_field() -> None:
    assert table_name("session_profile") == "headrace_session_profile"
    assert time_field("session_profile") == b"_ts:session_profile"


def test_a_layout_is_made_once_per_group() -> None:
    assert layout_of(SESSION) is layout_of(SESSION)
    assert layout_of(SESSION).names == SESSION.feature_names


def test_a_row_comes_back_as_it_went_in() -> None:
    layout = layout_of(SESSION)
    raws = layout.encode({"item_ids": ["a"], "event_count": 3})
    assert sum(map(bool, raws)) == 2
    decoded = layout.decode([*raws, encode_time(T0)])
    assert decoded is not None
    values, at = decoded
    assert at == T0
    assert {k: v for k, v in values.items() if v is not None} == {"item_ids": ["a"], "event_count": 3}
    assert layout.decode([*raws, None]) is None


def test_a_damaged_value_is_a_store_error() -> None:
    layout = layout_of(SESSION)
    raws: list[bytes | None] = [b"\x12\xff"] + [b""] * (len(layout.names) - 1)
    with pytest.raises(StoreError, match="write the row again"):
        layout.decode([*raws, encode_time(T0)])
