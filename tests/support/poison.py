"""Records that another producer may write into the log: some valid in an unusual form, most invalid."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any

from feature_repo.contract.validation import Event, encode

GOOD_IN_ITS_WAY = ("spaced", "reordered", "unknown field", "another zone", "escaped", "later version")


def written_otherwise(event: Event, way: str) -> bytes:
    """Encode an event as other software would; it must count like one of ours."""
    fields: dict[str, Any] = json.loads(encode(event))
    if way == "spaced":
        return json.dumps(fields, indent=1).encode()
    if way == "reordered":
        return json.dumps(dict(reversed(fields.items()))).encode()
    if way == "unknown field":
        return json.dumps({**fields, "page": {"depth": [1, 2]}}).encode()
    if way == "another zone":
        zone = timezone(timedelta(hours=-9, minutes=-30))
        return json.dumps({**fields, "event_time": event.event_time.astimezone(zone).isoformat()}).encode()
    if way == "escaped":
        name = "".join(f"\\u{ord(c):04x}" for c in event.session_id)
        return encode(event).replace(event.session_id.encode(), name.encode())
    return json.dumps({**fields, "schema_version": 7, "mood": "new"}).encode()


def poison(event: Event) -> Iterator[bytes]:
    """Yield records derived from an event, each invalid in one way."""
    raw = encode(event)
    fields: dict[str, Any] = json.loads(raw)

    def but(**changes: Any) -> bytes:
        return json.dumps({**fields, **changes}).encode()

    yield from (b"", b"{", b"null", b"[]", b"5", b"\x00", raw[:-1], raw + b"}", b"\xef\xbb\xbf" + raw)
    yield raw.replace(b'"click"', b'"cl\xffick"')
    yield raw[:-1] + b',"query":"\xed\xa0\x80"}'  # half a surrogate pair
    yield raw[:-1] + b',"query":"\\ud800"}'
    yield raw[:-1] + b',"deep":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    yield b"[" * 20_000
    yield raw[:-1] + b',"properties":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001
    for missing in ("event_id", "event_type", "event_time", "session_id", "item_id", "record"):
        yield json.dumps({k: v for k, v in fields.items() if k != missing}).encode()
    for time in (
        event.event_time.replace(tzinfo=None).isoformat(),
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-12:00",
        "2024-13-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "yesterday",
        "",
    ):
        yield but(event_time=time)
    for name in ("event_id", "session_id", "item_id", "user_id"):
        for value in (5, True, [], {}, "", "x" * 300, "é" * 200):
            yield but(**{name: value})
    yield from (but(event_type=value) for value in (5, None, "", "Click", "a b", "x" * 65))
    yield from (but(consent=value) for value in ("no", 0, []))
    yield from (but(position=value) for value in (-1, 10**7, 1.5, "3", 10**400))
    yield from (but(items=value) for value in (5, [5], [{"score": 1}], [{"item_id": "i", "score": "x"}]))
    yield from (but(properties=value) for value in (5, [], {"a": 5}, {"a": {"b": 1}}))
    yield raw[:-1] + b',"items":[{"item_id":"i","score":1e999}]}'
    yield raw[:-1] + b',"price":1e999}'
    yield but(event_type="search", item_id=None)
    yield but(event_type="impression", item_id=None)
    yield from (but(record=value) for value in (5, None, "decision", "Event", ["event"]))
    yield b'{"record":"item"}'
    yield b'{"record":"item","item_id":"i","price":-1}'
    yield b'{"record":"item","item_id":"i","price":1e999}'
    yield b'{"record":"item","item_id":"i","created_at":"2024-01-01T00:00:00"}'
    yield b'{"record":"item","item_id":"i","created_at":"9999-12-31T23:59:59-12:00"}'
    yield b'{"record":"item","item_id":"i","attributes":{"a":{"b":1}}}'
    yield b'{"record":"user"}'
    yield b'{"record":"user","user_id":"u","consent":"false"}'
    yield b'{"record":"user","user_id":"\xff","consent":false}'


def mutants(event: Event, count: int, seed: int) -> Iterator[bytes]:
    """Yield an event's bytes with random damage; some are still valid records."""
    rng = random.Random(seed)
    raw = encode(event)
    for _ in range(count):
        changed = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(changed))
            match rng.randrange(5):
                case 0:
                    changed[at] = rng.randrange(256)
                case 1:
                    del changed[at : at + rng.randint(1, 12)]
                case 2:
                    changed[at:at] = rng.randbytes(rng.randint(1, 6))
                case 3:
                    changed[at:at] = changed[at : at + 20]
                case _:
                    changed[at:at] = rng.choice([b"[", b'"', b"9" * 50, b"-", b"null", b"\\ud83d", b"{"])
            if not changed:
                break
        yield bytes(changed)
