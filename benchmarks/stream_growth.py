"""Throughput and memory of the stream at 10 thousand, 100 thousand and 1 million live sessions.

Each size runs in a process of its own. The baseline of every row is the smallest size, in the same run.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Sequence
from statistics import median

from benchmarks.harness import Row, Target

SIZES = (10_000, 100_000, 1_000_000)
EVENTS, ROUNDS = 100_000, 1
TARGETS = {
    "stream_growth_100k": Target(0.65, "ratio", "at least"),
    "stream_growth_1m": Target(0.65, "ratio", "at least"),
}
_NAMES = {10_000: "stream_growth_10k", 100_000: "stream_growth_100k", 1_000_000: "stream_growth_1m"}


def _one(size: int, seed: int) -> tuple[float, float, int]:
    """Events per second, peak memory (MiB) and state bytes at one size."""
    from benchmarks._sessions import fill_state, rate_once_loaded  # noqa: PLC0415
    from benchmarks.stream_write import bench, events, fill  # noqa: PLC0415

    with bench() as b:
        fill(b.settings, events(EVENTS, size, seed))
        state = fill_state(b.settings, size)
        rate = rate_once_loaded(b.settings, EVENTS)
    return rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, state


def measure(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> list[Row]:
    """One row per size: events/s; memory and bytes per session beside it."""
    context = multiprocessing.get_context("spawn")
    found: dict[int, list[tuple[float, float, int]]] = {size: [] for size in sizes}
    for n in range(rounds):
        for size in sizes:
            with context.Pool(1) as pool:
                found[size].append(pool.apply(_one, (size, n)))
    base_rate = median(rate for rate, _, _ in found[sizes[0]])
    base_memory = median(memory for _, memory, _ in found[sizes[0]])
    rows = []
    for size in sizes:
        memory = median(m for _, m, _ in found[size])
        extra = {
            "sessions": size,
            "memory_mib": round(memory),
            "memory_bytes_per_session": round((memory - base_memory) * 2**20 / max(size - sizes[0], 1)),
            "state_bytes_per_session": round(found[size][0][2] / size),
        }
        rate = median(r for r, _, _ in found[size])
        rows.append(
            Row(_NAMES[size], rate, "events/s", f"{sizes[0]:,} live sessions", base_rate, rounds, extra)
        )
    return rows


def run() -> list[Row]:
    """All three sizes."""
    return measure()
