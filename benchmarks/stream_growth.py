"""Throughput and memory of the stream at 10 thousand, 100 thousand and 1 million live sessions.

Each size runs in a separate process. The baseline of every row is the smallest size, in the same run. Events
touch 10,000 sessions spread evenly over the live ones, so the same number of rows is encoded, written and
saved at each size, and only the cost of many live sessions differs. `stream_growth_1m_spread` touches the
whole million instead, so hardly any events of a chunk share a row; that is a difference of the traffic.
`stream_growth_memory` is bytes per session from 100 thousand to 1 million, beside 10 to 100 thousand.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.harness import Row, Target

TOUCHED, EVENTS, ROUNDS = 10_000, 400_000, 2
TARGETS = {
    "stream_growth_100k": Target(0.65, "ratio", "at least"),
    "stream_growth_1m": Target(0.65, "ratio", "at least"),
    "stream_growth_memory": Target(1.35, "ratio", "at most"),
}


@dataclass(frozen=True)
class Load:
    """Number of live sessions, and of sessions that events touch."""

    sessions: int
    touched: int = TOUCHED


LOADS = {
    "stream_growth_10k": Load(10_000),
    "stream_growth_100k": Load(100_000),
    "stream_growth_1m": Load(1_000_000),
    "stream_growth_1m_spread": Load(1_000_000, 1_000_000),
}
SMALL, MIDDLE, LARGE = list(LOADS)[:3]


@dataclass(frozen=True)
class Found:
    """Medians over rounds."""

    rate: float
    memory_bytes: float
    state_bytes: float


def _one(load: Load, seed: int) -> tuple[float, float, int]:
    """Measure events per second, and the bytes of peak memory and of state."""
    from benchmarks._sessions import fill_state, rate_once_loaded
    from benchmarks.stream_write import bench, events, fill

    with bench() as b:
        fill(b.settings, events(EVENTS, load.sessions, seed, touched=load.touched))
        state = fill_state(b.settings, load.sessions)
        rate = rate_once_loaded(b.settings, EVENTS)
    return rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0, state


def measure(loads: Mapping[str, Load] | None = None, rounds: int = ROUNDS) -> dict[str, Found]:
    """Measure every load in turn, for some rounds."""
    context = multiprocessing.get_context("spawn")
    loads = loads or LOADS
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in loads}
    for n in range(rounds):
        for name, load in loads.items():
            with context.Pool(1) as pool:
                found[name].append(pool.apply(_one, (load, n)))
    return {name: Found(*map(median, zip(*of, strict=True))) for name, of in found.items()}


def run() -> list[Row]:
    """Measure all sizes."""
    found = measure()
    base = found[SMALL]
    rows = [_rate_row(name, found[name], base) for name in LOADS]
    large, middle = (_per_session(found, *pair) for pair in ((MIDDLE, LARGE), (SMALL, MIDDLE)))
    return [*rows, Row("stream_growth_memory", large, "bytes", "10 to 100 thousand", middle, ROUNDS)]


def _rate_row(name: str, found: Found, base: Found) -> Row:
    load = LOADS[name]
    extra: dict[str, Any] = {
        "sessions": load.sessions,
        "touched": load.touched,
        "events": EVENTS,
        "memory_mib": round(found.memory_bytes / 2**20),
        "state_bytes_per_session": round(found.state_bytes / load.sessions),
    }
    return Row(name, found.rate, "events/s", "10,000 live sessions", base.rate, ROUNDS, extra)


def _per_session(found: Mapping[str, Found], fewer: str, more: str) -> float:
    """Return the bytes of memory per additional session."""
    grown = found[more].memory_bytes - found[fewer].memory_bytes
    return grown / (LOADS[more].sessions - LOADS[fewer].sessions)
