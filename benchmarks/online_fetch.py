"""Reading user, session and segment rows through Headrace's source; baseline one raw pipelined HGETALL.

`online_fetch` decodes every value. `online_fetch_again` reads unchanged rows, which serving recognizes by
their bytes and does not decode again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target, latency_rows

if TYPE_CHECKING:
    from benchmarks._rig import Stage

WARM, ROUNDS = 300, 3000
TARGETS = {"online_fetch": Target(1.4, "ratio")}


def run() -> list[Row]:
    """Measure ``online_fetch`` (all features of three groups) and ``online_fetch_again``, and their p99."""
    import uvloop

    from benchmarks._rig import stage
    from serving.features.redis_row_source import REMEMBERED

    with stage("redis") as scene:
        anew = uvloop.run(_measure(scene, remembered=0))
        again = uvloop.run(_measure(scene, remembered=REMEMBERED))
    return [*_rows("online_fetch", anew), *_rows("online_fetch_again", again)]


def _rows(name: str, samples: Sequence[tuple[float, float]]) -> list[Row]:
    reads, raws = zip(*samples, strict=True)
    baseline = "raw pipelined HGETALL of the same keys (redis-py, hiredis)"
    return latency_rows(name, reads, baseline, raws)


async def _measure(scene: Stage, remembered: int) -> list[tuple[float, float]]:
    import redis

    from benchmarks._rig import USERS
    from feature_repo.groups import all_groups
    from feature_repo.online import redis_key
    from serving.features.redis_row_source import RedisSource

    assert scene.redis is not None
    groups = all_groups()
    source = RedisSource(scene.redis.url, remembered=remembered)
    client = redis.Redis.from_url(scene.redis.url)
    samples = []
    for number in range(WARM + ROUNDS):
        user, session, segment = f"u{number % USERS}", f"s{number % USERS}", f"seg{number % 9}"
        started = perf_counter()
        rows = await source.read(
            [
                (groups["user_profile"], user),
                (groups["session_profile"], session),
                (groups["segment_profile"], segment),
            ]
        )
        for row in rows:
            assert row is not None
            dict(row.values)
        read = perf_counter() - started
        started = perf_counter()
        pipe = client.pipeline(transaction=False)
        for entity, key in (("user_id", user), ("session_id", session), ("segment", segment)):
            pipe.execute_command("HGETALL", redis_key(entity, key))  # type: ignore[no-untyped-call]
        pipe.execute()
        samples.append((read * 1e3, (perf_counter() - started) * 1e3))
        await asyncio.sleep(0)
    await source.close()
    client.close()
    return samples[WARM:]
