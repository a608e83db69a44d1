"""Session profiles straight into the store's bytes, without a mapping of values or single values in between.

The generic way (`values`, `ViewLayout.encode`, `RowCommands.pairs`) is what a test holds this one to; it
costs three times as much, and encoding is what bounds the stream.
"""

from __future__ import annotations

import struct
from itertools import compress

from feature_repo.catalogue import CATEGORY
from feature_repo.group import DType
from feature_repo.groups.session_profile import (
    ATTRIBUTES,
    COUNTED,
    GROUP,
    LAST_ITEMS,
    Profile,
    SessionRules,
    values,
)
from feature_repo.online import EncodedRow, layout_of
from feature_repo.online.resp import LENGTHS, pair_head
from feature_repo.online.stamps import encode_micros
from feature_repo.online.wire import (
    CHUNKS,
    LOW,
    VARINTS,
    Memory,
    encode_int64,
    encode_strings,
    encode_value,
    varint,
)

_SIZES = range(max(ATTRIBUTES, LAST_ITEMS) + 1)
_DOUBLES = tuple(struct.Struct(f"<{n}d").pack for n in _SIZES)
_DOUBLE = _DOUBLES[1]
_SECOND_US = 1_000_000
_END = b"\r\n"
_layout = layout_of(GROUP)
_HEADS = {n: _END + pair_head(field) for n, field in zip(_layout.names, _layout.fields, strict=True)}
"""Each piece begins with the end of the one before."""


def _pair(name: str, raw: bytes) -> bytes:
    return b"%b%d\r\n%b" % (_HEADS[name], len(raw), raw)


def _strings(name: str, texts: list[str]) -> bytes:
    return _pair(name, encode_strings(texts))


def _string_list(length: int) -> bytes:
    """What stands between a field and the elements of a list of strings."""
    return b"%d\r\n\x62%b" % (1 + len(varint(length)) + length, varint(length))


def _packed_lists(name: str, tag: bytes, width: int) -> list[bytes]:
    """A field and what stands before its numbers, `width` bytes each, by how many they are."""
    found = [b"%b2\r\n%b\x00" % (_HEADS[name], tag)]
    for n in _SIZES[1:]:
        inner = b"\x0a" + varint(n * width)
        before = tag + varint(len(inner) + n * width) + inner
        found.append(b"%b%d\r\n%b" % (_HEADS[name], len(before) + n * width, before))
    return found


_TIMES = _packed_lists("item_times_ms", b"\x72", 6)
_ITEM_WEIGHTS = _packed_lists("item_weights", b"\x7a", 8)
_ATTR_WEIGHTS = _packed_lists("attr_weights", b"\x7a", 8)
_SHARES = _packed_lists("category_shares", b"\x7a", 8)
_STRINGS = [_string_list(n) for n in range(len(LENGTHS) - 8)]
_STAMP = pair_head(_layout.time_field)
_ITEM_IDS, _ATTR_KEYS, _CATEGORIES = (_HEADS[n] for n in ("item_ids", "attr_keys", "categories"))
_STARTED_AT, _LAST_EVENT_TIME = (_HEADS[n] for n in ("started_at", "last_event_time"))
_NO_USER, _NO_PRICE = _pair("user_id", b""), _pair("mean_price", b"")
_NO_QUERIES, _EMPTY_CART = (_pair(name, b"\x62\x00") for name in ("queries", "cart_item_ids"))
_DWELL, _PRICE = (_HEADS[name] + b"9\r\n\x29" for name in ("dwell_s", "mean_price"))


def _counts(counts: tuple[int, ...]) -> bytes:
    names = ("event_count", *(f"{kind}_count" for kind in COUNTED))
    return b"".join([_pair(name, encode_int64(n)) for name, n in zip(names, counts, strict=True)])


def _category(key: str) -> bytes:
    """The list element of a category by its attribute key; nothing for other attributes."""
    kind, colon, name = key.partition(":")
    return CHUNKS[name] if colon and kind == CATEGORY else b""


def _time(seconds: int) -> bytes:
    raw = b"\x40" + varint(seconds)
    return b"%d\r\n%b" % (len(raw), raw)


def _upper_bits(ms: int) -> bytes:
    """All but the lowest two of the six bytes that epoch milliseconds take from 1978 to 2109."""
    if not 1 << 21 <= ms < 1 << 28:
        raise OverflowError
    return LOW[ms & 0x3FFF] + VARINTS[ms >> 14]


_counts_of = Memory(_counts).__getitem__
_category_of, _chunk_of = Memory(_category).__getitem__, CHUNKS.__getitem__
_time_of = Memory(_time).__getitem__
_upper_bits_of = Memory(_upper_bits).__getitem__


def encode_session(session_id: str, profile: Profile, rules: SessionRules) -> EncodedRow:
    """The online row of a profile that is not denied."""
    try:
        return EncodedRow(session_id, profile.last_us, (), _pairs(profile, rules))
    except (IndexError, OverflowError):  # kilobytes of text, or a time beyond the tables
        return EncodedRow(session_id, profile.last_us, _layout.encode(values(profile, rules)))


def _pairs(profile: Profile, rules: SessionRules) -> bytes:
    last_us, user_id = profile.last_us, profile.user_id
    ids, items = list(profile.items), list(profile.items.values())
    ids.reverse()
    items.reverse()
    item_ids = b"".join(map(_chunk_of, ids))
    attrs = profile.attrs
    keys = sorted(attrs, key=attrs.__getitem__, reverse=True)[:ATTRIBUTES]
    attr_keys = b"".join(map(_chunk_of, keys))
    decay = 2.0 ** ((profile.landmark_us - last_us) / rules.half_life_us)
    weights = [attrs[key] * decay for key in keys]
    found = list(map(_category_of, keys))
    categories, shares = b"".join(found), list(compress(weights, found))
    total = sum(shares) or 1.0
    stamp = encode_micros(last_us)
    parts = (
        _STAMP, LENGTHS[len(stamp)], stamp,
        _NO_USER if user_id is None else _pair("user_id", encode_value(DType.STRING, user_id)),
        _ITEM_IDS, _STRINGS[len(item_ids)], item_ids,
        _TIMES[len(items)], *[LOW[(ms := at // 1000) & 0x3FFF] + _upper_bits_of(ms >> 14) for at, _ in items],
        _ITEM_WEIGHTS[len(items)], _DOUBLES[len(items)](*[weight for _, weight in items]),
        _ATTR_KEYS, _STRINGS[len(attr_keys)], attr_keys,
        _ATTR_WEIGHTS[len(weights)], _DOUBLES[len(weights)](*weights),
        _CATEGORIES, _STRINGS[len(categories)], categories,
        _SHARES[len(shares)], _DOUBLES[len(shares)](*[weight / total for weight in shares]),
        _counts_of((profile.event_count, *profile.counts)),
        _strings("queries", profile.queries) if profile.queries else _NO_QUERIES,
        _strings("cart_item_ids", profile.cart) if profile.cart else _EMPTY_CART,
        _DWELL, _DOUBLE((last_us - profile.started_us) / 1e6),
        _PRICE + _DOUBLE(profile.price_sum / profile.price_count) if profile.price_count else _NO_PRICE,
        _STARTED_AT, _time_of(profile.started_us // _SECOND_US),
        _LAST_EVENT_TIME, _time_of(last_us // _SECOND_US),
        _END,
    )  # fmt: skip
    return b"".join(parts)
