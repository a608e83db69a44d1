"""The fast encoding of a session equals the generic one, byte for byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from redis._parsers.encoders import Encoder
from redis.connection import PythonRespSerializer

from feature_repo.groups.session_profile import (
    ATTRIBUTES,
    COUNTED,
    GROUP,
    LAST_ITEMS,
    Profile,
    SessionRules,
    time_of,
    values,
)
from feature_repo.online import EncodedRow, layout_of, redis_key
from feature_repo.online.resp import RowCommands
from feature_repo.online.stamps import encode_micros
from streaming.encode import encode_session

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
    row = encode_session(session_id, profile, RULES)
    assert row.key == session_id
    assert time_of(row.micros) == time_of(profile.last_us)
    raws = layout_of(GROUP).encode(values(profile, RULES))
    assert list(row.values) == raws
    assert (row.pairs or COMMANDS.pairs(row.micros, row.raws)) == COMMANDS.pairs(profile.last_us, raws)


def test_what_the_tables_do_not_hold_is_encoded_the_generic_way() -> None:
    """Times outside 1978 … 2109, texts of kilobytes."""
    now = 1_700_000_000_000_000
    for profile in (
        Profile(now, now, now, counts=[0] * len(COUNTED), items={"i": (1, 1.0)}),
        Profile(now, now, now, counts=[0] * len(COUNTED), items={"i" * 9000: (now, 1.0)}),
    ):
        row = encode_session("s", profile, RULES)
        assert not row.pairs
        assert list(row.raws) == layout_of(GROUP).encode(values(profile, RULES))
    framed = encode_session("s", Profile(now, now, now, counts=[0] * len(COUNTED)), RULES)
    assert framed.pairs


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
