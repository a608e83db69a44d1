"""Generated row encoders equal the generic encoding, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis._parsers.encoders import Encoder
from redis.connection import PythonRespSerializer

from feature_repo.clock import time_of
from feature_repo.group import DType, Feature, FeatureGroup, Fold
from feature_repo.groups import stream_groups
from feature_repo.groups.session_profile import (
    ATTRIBUTES,
    COUNTED,
    GROUP,
    LAST_ITEMS,
    Profile,
    SessionRules,
    values,
)
from feature_repo.online import EncodedRow, layout_of, redis_key
from feature_repo.online.commands import RowCommands
from feature_repo.online.row_encoder import RowEncoder
from feature_repo.online.timestamps import encode_micros

ROWS = RowEncoder(GROUP)
COMMANDS = RowCommands(layout_of(GROUP))
RULES = SessionRules(gap_us=1_800_000_000, half_life_us=1_800_000_000.0)
MICROS = st.one_of(
    st.integers(1_700_000_000_000_000, 1_800_000_000_000_000), st.integers(0, 5_000_000_000_000_000)
)
WEIGHTS = st.floats(0, 1e6)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    started, last = sorted((draw(MICROS), draw(MICROS)))
    keys = st.one_of(st.text(max_size=12), st.text(max_size=12).map("category:{}".format))
    counts = st.one_of(st.integers(0, 30), st.integers(0, 10**7))
    return Profile(
        started,
        last,
        draw(st.integers(max(started, last - 10**11), last)),
        draw(st.none() | st.text(max_size=10)),
        event_count=draw(counts),
        counts=[draw(counts) for _ in COUNTED],
        items=draw(st.dictionaries(st.text(max_size=10), st.tuples(MICROS, WEIGHTS), max_size=LAST_ITEMS)),
        attrs=draw(st.dictionaries(keys, WEIGHTS, max_size=ATTRIBUTES + 30)),
        queries=draw(st.lists(st.text(max_size=10), max_size=5)),
        cart=draw(st.lists(st.text(max_size=10), max_size=5)),
        price_sum=draw(WEIGHTS),
        price_count=draw(st.integers(0, 5)),
    )


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=10), profiles())
def test_equals_the_generic_encoding(session_id: str, profile: Profile) -> None:
    row = ROWS.encode(session_id, profile.last_us, profile, RULES)
    assert row.key == session_id
    assert time_of(row.micros) == time_of(profile.last_us)
    raws = layout_of(GROUP).encode(values(profile, RULES))
    assert list(row.values) == raws
    assert (row.pairs or COMMANDS.pairs(row.micros, row.raws)) == COMMANDS.pairs(profile.last_us, raws)


def test_what_the_tables_do_not_hold_is_encoded_the_generic_way() -> None:
    """Times within 17 seconds of 1970, texts of kilobytes."""
    now = 1_700_000_000_000_000
    for items in ({"i": (1, 1.0)}, {"i" * 9000: (now, 1.0)}):
        profile = Profile(now, now, now, counts=[0] * len(COUNTED), items=items)
        row = ROWS.encode("s", now, profile, RULES)
        assert not row.pairs
        assert list(row.raws) == layout_of(GROUP).encode(values(profile, RULES))
    assert ROWS.encode("s", now, Profile(now, now, now, counts=[0] * len(COUNTED)), RULES).pairs


VALUES = {
    DType.STRING: st.text(max_size=300),
    DType.INT64: st.integers(-(2**63), 2**63 - 1),
    DType.FLOAT64: st.floats(allow_nan=False),
    DType.BOOL: st.booleans(),
    DType.TIMESTAMP: st.integers(-(10**15), 5 * 10**15),
    DType.STRINGS: st.lists(st.text(max_size=20), max_size=20),
    DType.INT64S: st.lists(st.integers(-(2**63), 2**63 - 1), max_size=300),
    DType.FLOAT64S: st.lists(st.floats(allow_nan=False), max_size=300),
    DType.FLOAT32S: st.lists(st.floats(allow_nan=False, width=32), max_size=300),
}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_group_of_any_features_is_encoded_as_feast_would(data: st.DataObject) -> None:
    """The encoder is generated: a group with features of every type, in any order, some absent."""
    dtypes = data.draw(st.permutations([*DType, DType.INT64, DType.STRINGS]))
    features = tuple(Feature(f"f{i}", dtype, "A feature.") for i, dtype in enumerate(dtypes))
    group = replace(GROUP, name="made_up", features=features, fold=Fold(lambda state, _: state))
    row = tuple(data.draw(st.none() | VALUES[dtype]) for dtype in dtypes)
    micros = data.draw(MICROS)
    raws = layout_of(group).encode(group.named(row))
    encoded = RowEncoder(group).encode("k", micros, row, None)
    commands = RowCommands(layout_of(group))
    assert commands.hsets([encoded]) == commands.hsets([EncodedRow("k", micros, raws)])


@pytest.mark.parametrize("group", stream_groups().values(), ids=lambda group: group.name)
def test_every_stream_group_has_an_encoder(group: FeatureGroup) -> None:
    assert RowEncoder(group)


@given(st.text(max_size=10), MICROS, st.lists(st.binary(max_size=20), min_size=21, max_size=21))
def test_commands_are_what_redis_py_would_send(key: str, micros: int, raws: list[bytes]) -> None:
    raws = [raws[0] * 500, *raws[1:], *[b""] * (len(layout_of(GROUP).names) - len(raws))]
    layout, row = layout_of(GROUP), EncodedRow(key, micros, raws)
    redis_key_ = redis_key(layout.join_key, key)
    pairs = [part for pair in zip(layout.fields, raws, strict=True) for part in pair]
    pack = PythonRespSerializer(1 << 16, Encoder("utf-8", "strict", False).encode).pack
    hset = pack("HSET", redis_key_, layout.time_field, encode_micros(micros), *pairs)
    assert COMMANDS.hsets([row, row]) == b"".join(hset) * 2
    framed = EncodedRow(key, micros, (), COMMANDS.pairs(micros, raws))
    assert COMMANDS.hsets([framed]) == b"".join(hset)
    assert list(framed.values) == raws
    assert COMMANDS.hget_times([row]) == b"".join(pack("HGET", redis_key_, layout.time_field))
