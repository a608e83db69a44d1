"""Sessions of users who withdrew consent, found without an index: denials are rare, sessions are many."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
from msgspec import Struct


class _Session(Struct, array_like=True, gc=False):
    """The beginning of `fold.Held`."""

    last_us: int
    last_id: str
    live: bytes


class _Profile(Struct, array_like=True, gc=False):
    """The beginning of `Profile`."""

    started_us: int
    last_us: int
    landmark_us: int
    user_id: str | None = None


_session = msgspec.msgpack.Decoder(_Session).decode
_profile = msgspec.msgpack.Decoder(_Profile).decode


def sessions_of(held: Mapping[str, bytes], users: Collection[str]) -> list[str]:
    """Ids of the held sessions that belong to one of these users now; looks at each (0.6 µs)."""
    return [key for key, raw in held.items() if _profile(_session(raw).live).user_id in users]
