"""As many requests as ten thousand visitors send at once, over a bounded number of connections."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

REQUESTS, CONNECTIONS = 10_000, 200


async def talk(port: int, payload: bytes, left: list[int], seen: Counter[tuple[int, str]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while left[0] > 0:
        left[0] -= 1
        writer.write(payload)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = next(int(v.split(b":")[1]) for v in head.lower().split(b"\r\n") if b"content-length:" in v)
        answer = json.loads(await reader.readexactly(length))
        degraded = "overload" if answer.get("degraded") == ["overload"] else "served"
        seen[status, degraded] += 1
        assert sorted(item["item_id"] for item in answer["items"]) == ["i0", "i1", "i2"]
    writer.close()
    await writer.wait_closed()


def test_everyone_is_answered_and_nothing_is_lost(
    shop: Any, serving: Callable[..., Any], body: Callable[..., dict[str, Any]]
) -> None:
    content = json.dumps(body(3, user_id="u", session_id="s")).encode()
    head = b"POST /v1/rank HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(content)
    seen: Counter[tuple[int, str]] = Counter()
    with serving(shop.settings.model_copy(update={"max_concurrency": 4})) as client:
        port = client.base_url.port
        left = [REQUESTS]

        async def all_of_them() -> None:
            await asyncio.gather(*[talk(port, head + content, left, seen) for _ in range(CONNECTIONS)])

        asyncio.run(all_of_them())
    assert sum(seen.values()) == REQUESTS
    assert {status for status, _ in seen} == {200}
    assert seen[200, "overload"], "beyond four at once the base order is answered, not a queue kept"
    assert seen[200, "served"]
