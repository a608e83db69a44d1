"""Latency of `POST /v1/rank`, one client in sequence, beside a bare echo of the bodies and a raw fetch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target, percentile

if TYPE_CHECKING:
    from benchmarks._rig import Stage

WARM, ROUNDS = 300, 2000
TARGETS = {
    "rank_100": Target(2.0, "ratio"),
    "rank_100_p99": Target(5.0),
    "rank_1000": Target(3.5),
    "rank_1000_p99": Target(8.0),
    "rank_100_sqlite_p99": Target(8.0),
}


def _raw_fetch(scene: Stage) -> Iterator[float]:
    """Milliseconds of one raw pipelined HGETALL of the keys of a request, without end; 0 without Redis."""
    from time import perf_counter  # noqa: PLC0415

    if scene.redis is None:
        while True:
            yield 0.0
    import redis  # noqa: PLC0415

    from benchmarks._rig import USERS  # noqa: PLC0415
    from feature_repo.online import redis_key  # noqa: PLC0415

    client = redis.Redis.from_url(scene.redis.url)
    number = 0
    while True:
        keys = [
            redis_key("user_id", f"u{number % USERS}"),
            redis_key("session_id", f"s{number % USERS}"),
            redis_key("segment", "all"),
        ]
        started = perf_counter()
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.execute_command("HGETALL", key)  # type: ignore[no-untyped-call]
        pipe.execute()
        yield (perf_counter() - started) * 1e3
        number += 1


def latency(name: str, candidates: int, online_store: str) -> list[Row]:
    """Rows `name` (p50) and `name`_p99."""
    from benchmarks._rig import Client, bodies, echo, milliseconds, served, stage  # noqa: PLC0415

    with stage(online_store) as scene, served(scene) as port, echo() as echo_port:
        sent = bodies(candidates)
        ranked = milliseconds(Client(port), "/v1/rank", sent)
        echoed = milliseconds(Client(echo_port), "/", sent)
        fetched = _raw_fetch(scene)
        for _ in range(WARM):
            next(ranked), next(echoed), next(fetched)
        samples = [(next(ranked), next(echoed), next(fetched)) for _ in range(ROUNDS)]
    return _rows(name, samples)


def _rows(name: str, samples: Sequence[tuple[float, float, float]]) -> list[Row]:
    ranks, echoes, fetches = zip(*samples, strict=True)
    parts = {"echo_ms": median(echoes), "fetch_ms": median(fetches)}
    baseline = "bare ASGI echo of the same bodies + raw pipelined HGETALL"
    tail = {"echo_ms": percentile(echoes, 0.99), "fetch_ms": percentile(fetches, 0.99), "max_ms": max(ranks)}
    return [
        Row(name, median(ranks), "ms", baseline, sum(parts.values()), len(ranks), parts),
        Row(
            f"{name}_p99",
            percentile(ranks, 0.99),
            "ms",
            f"{baseline}, p99",
            tail["echo_ms"] + tail["fetch_ms"],
            len(ranks),
            tail,
        ),
    ]


RUNS = {
    "rank_100": partial(latency, "rank_100", 100, "redis"),
    "rank_1000": partial(latency, "rank_1000", 1000, "redis"),
    "rank_100_sqlite": partial(latency, "rank_100_sqlite", 100, "sqlite"),
}
