"""Latency of `POST /v1/rank` with one sequential client, beside a bare echo of the bodies and a raw fetch.

Rows `rank_…` show what a Python program sees. An ordinary keep-alive client (httpx, the base of
`serving.client`) calls Headrace and, in turn, a bare ASGI echo of the same bodies under the same server. Both
sides include the client's own cost of about 0.4 ms. Rows `rank_…_socket` use a bare socket on both sides
instead. The baseline, echo plus raw fetch, is a lower bound for any ranking behind HTTP and Redis, so
`value - baseline` is the time that Headrace adds. `in_process_ms` is the `total` in the answer.

The 200 bodies repeat every 200 requests, like visitors who view several pages. Rows of users, segments and
sessions are then unchanged and not decoded again (`rank_under_write` changes them meanwhile).

`rank_rules` measures only many business rules, in process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.harness import Row, Target, alternate, percentile, timed

if TYPE_CHECKING:
    from benchmarks._rig import Stage
    from serving.control.rules import Rules
    from serving.items.item_snapshot import ItemSnapshot

WARM, ROUNDS = 300, 2000
RULES, RULED = 100, 2000
_OF_CANDIDATES = {
    "rank_100": Target(2.0, "ratio"),
    "rank_100_p99": Target(5.0),
    "rank_1000": Target(3.5),
    "rank_1000_p99": Target(8.0),
    "rank_100_sqlite_p99": Target(8.0),
}


def _by_socket(name: str) -> str:
    return f"{name.removesuffix('_p99')}_socket{'_p99' if name.endswith('_p99') else ''}"


# Report both clients, so that readers see both.
TARGETS = {
    **_OF_CANDIDATES,
    **{_by_socket(name): target for name, target in _OF_CANDIDATES.items()},
    "rank_rules": Target(10.0),
}


class Sample(NamedTuple):
    """Milliseconds of one round: ranking and echo by each client, the raw fetch, and the answer's total."""

    ranked: float
    echoed: float
    ranked_socket: float
    echoed_socket: float
    fetched: float
    in_process: float


def _raw_fetch(scene: Stage) -> Iterator[float]:
    """Yield the milliseconds of one raw pipelined HGETALL of a request's keys; 0 without Redis."""
    from time import perf_counter

    if scene.redis is None:
        while True:
            yield 0.0
    import redis

    from benchmarks._rig import USERS
    from feature_repo.online import redis_key

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
    """Measure the rows `name` and `name`_socket (p50), and the p99 of each."""
    from benchmarks._clients import Client, Ordinary, Posts, exchanges
    from benchmarks._rig import bodies, echo, served, stage

    with stage(online_store) as scene, served(scene) as port, echo() as echo_port:
        sent = bodies(candidates)
        clients: list[Posts] = [Ordinary(port), Ordinary(echo_port), Client(port), Client(echo_port)]
        ways = [
            exchanges(client, path, sent) for client, path in zip(clients, ["/v1/rank", "/"] * 2, strict=True)
        ]
        fetched = _raw_fetch(scene)
        samples = [_round(ways, fetched) for _ in range(WARM + ROUNDS)][WARM:]
        for client in clients:
            client.close()
    return [
        *_rows(name, samples, lambda s: (s.ranked, s.echoed)),
        *_rows(f"{name}_socket", samples, lambda s: (s.ranked_socket, s.echoed_socket)),
    ]


def _round(ways: Sequence[Iterator[tuple[float, bytes]]], fetched: Iterator[float]) -> Sample:
    import msgspec

    (ranked, answer), (echoed, _), (ranked_socket, _), (echoed_socket, _) = map(next, ways)
    total = msgspec.json.decode(answer)["timings_ms"]["total"]
    return Sample(ranked, echoed, ranked_socket, echoed_socket, next(fetched), total)


def _rows(
    name: str, samples: Sequence[Sample], of_client: Callable[[Sample], tuple[float, float]]
) -> list[Row]:
    ranks, echoes = zip(*map(of_client, samples), strict=True)
    fetches, totals = [s.fetched for s in samples], [s.in_process for s in samples]
    rows = []
    for suffix, figure in (("", median), ("_p99", lambda found: percentile(found, 0.99))):
        parts = {"echo_ms": figure(echoes), "fetch_ms": figure(fetches), "in_process_ms": figure(totals)}
        floor = parts["echo_ms"] + parts["fetch_ms"]
        baseline = "bare ASGI echo of the same bodies + raw pipelined HGETALL" + (suffix and ", p99")
        extra = {**parts, "max_ms": max(ranks)}
        rows.append(Row(name + suffix, figure(ranks), "ms", baseline, floor, len(ranks), extra))
    return rows


def _many_rules() -> Rules:
    """Make attribute rules like those of a shop with many campaigns and suppliers."""
    from benchmarks._rig import TYPES
    from serving.control.rules import AtMost, Demote, Exclude, Rules

    def values(number: int) -> tuple[str, ...]:
        return tuple(f"{t}:{t[0]}{(number * 7 + place) % n}" for place, (t, n) in enumerate(TYPES.items()))[
            1:2
        ]

    excluded = [Exclude(name=f"exclude {n}", attributes=values(n)) for n in range(RULES // 4)]
    demoted = [Demote(name=f"demote {n}", attributes=values(n + 50), by=10) for n in range(RULES // 2)]
    limited = [
        AtMost(name=f"limit {n}", type=list(TYPES)[n % len(TYPES)], count=100 + n) for n in range(RULES // 4)
    ]
    return Rules((*excluded, *demoted, *limited))


def _loop(rules: Rules, item_ids: Sequence[str], snapshot: ItemSnapshot) -> Callable[[], None]:
    """Check every rule against every candidate in a plain loop, with its lookups prepared."""
    from serving.control.rules import Demote, Exclude

    names = {number: key for key, number in snapshot.attributes.ids.items()}
    offsets, values = snapshot.attributes.offsets, snapshot.attributes.values
    held = []
    for item_id in item_ids:
        number = snapshot.index[item_id]
        held.append({names[v] for v in values[offsets[number] : offsets[number + 1]].tolist()})
    wanted = [set(rule.attributes) for rule in rules.rules if isinstance(rule, Exclude | Demote)]

    def run() -> None:
        for keys in held:
            for some in wanted:
                some.isdisjoint(keys)

    return run


def rules_alone() -> list[Row]:
    """Measure `rank_rules`: 100 attribute rules applied to 2,000 candidates."""
    import numpy as np

    from benchmarks._rig import stage
    from feature_repo.lake.lake import Builds
    from serving.control.apply_rules import apply_rules
    from serving.items.item_snapshot import load_snapshot

    with stage("sqlite") as scene:
        snapshot = load_snapshot(Builds(scene.home.features))
    assert snapshot is not None
    rules, item_ids, order = _many_rules(), snapshot.item_ids[:RULED], np.arange(RULED)
    dropped = len(apply_rules(rules, order, item_ids, snapshot).dropped)
    pair = alternate(
        timed(lambda: apply_rules(rules, order, item_ids, snapshot)),
        timed(_loop(rules, item_ids, snapshot)),
        rounds=30,
        warmup=3,
    )
    baseline = "plain loop: does the rule match, of each rule and candidate"
    extra = {"rules": len(rules.rules), "candidates": RULED, "dropped": dropped}
    return [Row("rank_rules", pair.value * 1e3, "ms", baseline, pair.baseline * 1e3, pair.samples, extra)]


RUNS = {
    "rank_100": partial(latency, "rank_100", 100, "redis"),
    "rank_1000": partial(latency, "rank_1000", 1000, "redis"),
    "rank_100_sqlite": partial(latency, "rank_100_sqlite", 100, "sqlite"),
    "rank_rules": rules_alone,
}
