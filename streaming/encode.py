"""Session profiles straight into Feast's bytes, without a mapping of values in between.

The generic way (`values`, then `ViewLayout.encode`) is what a test holds this one to; it costs far more,
and encoding is what bounds the stream.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter

from feature_repo.catalogue import CATEGORY
from feature_repo.group import DType
from feature_repo.groups.session_profile import ATTRIBUTES, Profile, SessionRules
from feature_repo.online import EncodedRow
from feature_repo.online.wire import INTS, LOW, VARINTS, encode_int64, encode_strings, encode_value, varint

_LIST_SIZES = max(ATTRIBUTES, 64) + 1
_DOUBLES = tuple(struct.Struct(f"<{n}d").pack for n in range(_LIST_SIZES))
_DOUBLE = struct.Struct("<d").pack
_weight = itemgetter(1)
_PREFIX = f"{CATEGORY}:"
_CUT = len(_PREFIX)
_SECOND_US = 1_000_000
_SIX_BYTES_MS = 1 << 35


def _list_head(tag: bytes, length: int) -> bytes:
    """What stands before the packed body of a list."""
    inner = b"\x0a" + varint(length)
    return tag + varint(len(inner) + length) + inner


_DOUBLES_HEAD = (b"\x7a\x00", *(_list_head(b"\x7a", 8 * n) for n in range(1, _LIST_SIZES)))
_TIME_BYTES = 6
_TIMES_HEAD = (b"\x72\x00", *(_list_head(b"\x72", _TIME_BYTES * n) for n in range(1, _LIST_SIZES)))
_NO_STRINGS = b"\x62\x00"


def _doubles(values: Sequence[float]) -> bytes:
    return _DOUBLES_HEAD[len(values)] + _DOUBLES[len(values)](*values)


def _times_ms(times: list[int]) -> bytes:
    """Epoch milliseconds; from 1978 to 2109 each is six bytes, three table look-ups."""
    try:
        body = b"".join([LOW[ms & 0x3FFF] + LOW[ms >> 14 & 0x3FFF] + VARINTS[ms >> 28] for ms in times])
        if times and min(times) >= _SIX_BYTES_MS:
            return _TIMES_HEAD[len(times)] + body
    except IndexError:
        pass
    return encode_value(DType.INT64S, times)


def _counts(profile: Profile) -> list[bytes]:
    try:
        return [INTS[profile.event_count], *map(INTS.__getitem__, profile.counts)]
    except IndexError:
        return [encode_int64(n) for n in (profile.event_count, *profile.counts)]


def encode_session(session_id: str, profile: Profile, rules: SessionRules) -> EncodedRow:
    """The online row of a profile that is not denied."""
    items = profile.items
    entries = list(items.values())
    entries.reverse()
    last_us = profile.last_us
    decay = 2.0 ** ((profile.landmark_us - last_us) / rules.half_life_us)
    attrs = sorted(profile.attrs.items(), key=_weight, reverse=True)[:ATTRIBUTES]
    shared = [(key[_CUT:], weight * decay) for key, weight in attrs if key.startswith(_PREFIX)]
    total = sum([weight for _, weight in shared]) or 1.0
    user_id = profile.user_id
    raws = [
        b"" if user_id is None else _string(user_id),
        encode_strings(list(items)[::-1]),
        _times_ms([at // 1000 for at, _ in entries]),
        _doubles([weight for _, weight in entries]),
        encode_strings([key for key, _ in attrs]),
        _doubles([weight * decay for _, weight in attrs]),
        encode_strings([category for category, _ in shared]),
        _doubles([w / total for _, w in shared]),
        *_counts(profile),
        encode_strings(profile.queries) if profile.queries else _NO_STRINGS,
        encode_strings(profile.cart) if profile.cart else _NO_STRINGS,
        b"\x29" + _DOUBLE((last_us - profile.started_us) / 1e6),
        b"\x29" + _DOUBLE(profile.price_sum / profile.price_count) if profile.price_count else b"",
        b"\x40" + varint(profile.started_us // _SECOND_US),
        b"\x40" + varint(last_us // _SECOND_US),
    ]
    return EncodedRow(session_id, last_us, raws)


def _string(text: str) -> bytes:
    raw = text.encode()
    return b"\x12" + varint(len(raw)) + raw
