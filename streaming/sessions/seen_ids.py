"""Event ids a session has seen: eight bytes of hash and four of event time (s) each, all in one `bytes`."""

from __future__ import annotations

import xxhash

SEEN_IDS = 4096
"""Event ids remembered per session; beyond them the oldest are forgotten."""
_FORGET_EVERY = 32
_HASH = 8
_ENTRY = _HASH + 4


def code_of(event_id: str) -> bytes:
    """What is kept of an id."""
    return xxhash.xxh64_digest(event_id.encode())


def among(seen: bytes, code: bytes) -> bool:
    """Whether an id was seen."""
    at = seen.find(code)
    while at >= 0:
        if at % _ENTRY == 0:
            return True
        at = seen.find(code, at + 1)
    return False


def with_id(seen: bytes, code: bytes, time_s: int, horizon_s: int) -> bytes:
    """One more id; now and then those of events before the horizon are forgotten."""
    seen += code + max(time_s, 0).to_bytes(4, "big")
    return seen if len(seen) % (_FORGET_EVERY * _ENTRY) else _forget(seen, horizon_s)


def _forget(seen: bytes, before_s: int) -> bytes:
    entries = [seen[at : at + _ENTRY] for at in range(0, len(seen), _ENTRY)]
    kept = [e for e in entries if int.from_bytes(e[_HASH:], "big") >= before_s]
    return b"".join(kept[-SEEN_IDS:])
