"""The fast encoding of a session equals the generic one, byte for byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

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
from feature_repo.online import layout_of
from streaming.encode import encode_session

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
    assert list(row.raws) == layout_of(GROUP).encode(values(profile, RULES))
