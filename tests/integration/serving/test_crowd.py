"""The concurrent requests of ten thousand visitors, over a bounded number of connections."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from feature_repo.home import Home
from feature_repo.settings import Settings

REQUESTS, CONNECTIONS, COUNT = 10_000, 200, 20
AT_ONCE = 4
WITHIN_S = 120.0
LATE = {"store_late", "store_open", "store_failing", "features_late", "budget_exceeded", "blend_open"}
CACHED = {"user_cached", "session_cached", "segment_cached"}
BASE = [f"i{n}" for n in range(COUNT)]


@pytest.fixture
def settings(home: Home) -> Settings:
    """Use the production budgets: 30 ms, and 10 ms for the store."""
    return Settings(home=home.root, max_concurrency=AT_ONCE)


async def talk(port: int, payload: bytes, left: list[int], answers: list[tuple[int, Any]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while left[0] > 0:
        left[0] -= 1
        writer.write(payload)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = next(int(v.split(b":")[1]) for v in head.lower().split(b"\r\n") if b"content-length:" in v)
        answers.append((status, json.loads(await reader.readexactly(length))))
    writer.close()
    await writer.wait_closed()


def kind_of(answer: dict[str, Any]) -> str:
    """Classify an answer: base order at once, without late features, or complete."""
    ids, tier, codes = [i["item_id"] for i in answer["items"]], answer["tier"], set(answer["degraded"])
    assert sorted(ids) == sorted(BASE), "nothing lost, duplicated or invented"
    if "overload" in codes:
        assert (tier, codes, ids) == ("base", {"overload"}, BASE)
        return "overload"
    if not codes:
        assert tier == "session+long_term"
        return "whole"
    assert codes & LATE
    assert codes <= LATE | CACHED
    assert (ids == BASE) == (tier == "base")
    return "late"


def test_everyone_is_answered_and_nothing_is_lost(
    shop: Any,
    serving: Callable[..., Any],
    body: Callable[..., dict[str, Any]],
    until: Callable[..., Any],
) -> None:
    assert (shop.settings.budget_ms, shop.settings.store_budget_ms) == (30.0, 10.0)
    content = json.dumps(body(COUNT, user_id="u", session_id="s")).encode()
    payload = b"POST /v1/rank HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(content)
    answers: list[tuple[int, Any]] = []
    with serving(shop.settings) as client:

        def calm() -> bool:
            answers.append(
                ((response := client.post("/v1/rank", content=content)).status_code, response.json())
            )
            return kind_of(answers[-1][1]) == "whole"

        until(calm)
        before, left, port = len(answers), [REQUESTS], client.base_url.port

        async def all_of_them() -> None:
            crowd = [talk(port, payload + content, left, answers) for _ in range(CONNECTIONS)]
            await asyncio.wait_for(asyncio.gather(*crowd), WITHIN_S)

        asyncio.run(all_of_them())
        assert len(answers) == before + REQUESTS
        assert client.get("/readyz").status_code == 200
        until(calm)  # once they have left, everything is as before
        metrics = client.get("/metrics").text
    assert {status for status, _ in answers} == {200}
    kinds = Counter(kind_of(answer) for _, answer in answers)
    assert kinds["overload"], "above four concurrent requests, the base order is answered without a queue"
    assert kinds["late"] + kinds["whole"], "accepted requests are personalized as far as time and cache allow"
    for tier, count in Counter(answer["tier"] for _, answer in answers).items():
        assert f'headrace_ranks_total{{tier="{tier}"}} {float(count)}' in metrics
