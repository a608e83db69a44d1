"""`batch_build`: the batch groups over a million simulated events; HEADRACE_BENCH_LONG=1 adds 10 and 30.

Groups are built as in production, without checks. The baseline is hand-written DuckDB SQL for the same
results on the same files (`_batch_sql`), with the same memory limit. From ten million events on, the limit is
18 GB, because the baseline runs out of memory with less. Each build is a separate process. `…_memory` is the
peak memory. `batch_build_spill` builds a million events with a quarter of the memory. `…_bounded` compares
Headrace with 2 GB, which must suffice for any number of events, to its own build of one million.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks._apart import Cost, apart
from benchmarks._batch_sql import statements
from benchmarks.harness import Row, Target, alternate
from feature_repo.group import BatchParams
from feature_repo.groups import batch_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake, duckdb_backend
from feature_repo.settings import Settings

MEMORY, LITTLE, MUCH, THREADS = "2GB", "512MB", "18GB", 2
ROUNDS = 3
TINY = 0.01
"""Millions of events built before the clock starts, for imports and first compilations."""
USERS_PER_MILLION, ITEMS, DAYS = 9_000, 5_000, 30
SIZES = {"batch_build": 1, "batch_build_10m": 10, "batch_build_30m": 30}
OVERHEAD_MIB = 1024
"""Allowance for Python, Ibis, Arrow and DuckDB's buffers outside its memory limit."""
TARGETS = {
    **{name: Target(1.5, "ratio") for name in SIZES},
    "batch_build_memory": Target(2048 + OVERHEAD_MIB),
    **{f"{name}_bounded": Target(1.5, "ratio") for name in SIZES if name != "batch_build"},
    **{f"{name}_bounded_memory": Target(2048 + OVERHEAD_MIB) for name in SIZES if name != "batch_build"},
    "batch_build_spill": Target(512 + OVERHEAD_MIB),
}
LIMITS = {name: 5400.0 for size in SIZES for name in (size, f"{size}_bounded")}


@dataclass(frozen=True)
class Shop:
    """A simulated lake in a home."""

    home: Path
    params: BatchParams
    events: int

    def settings(self, memory: str = MEMORY) -> Settings:
        """Settings of the build."""
        return Settings(home=self.home, duckdb_memory=memory, duckdb_threads=THREADS)

    @property
    def spill(self) -> Path:
        """Folder that DuckDB spills to."""
        return Home(self.home).features / ".spill"


def make_shop(root: Path, millions: float) -> Shop:
    """Simulate a shop of about `millions` of events in thirty days, in a separate process."""
    from streaming.simulator import ShopConfig

    config = ShopConfig(
        users=int(USERS_PER_MILLION * millions), items=ITEMS, days=DAYS, duplicates=0, late=0, malformed=0
    )
    home = root / f"home-{millions:g}"
    apart(_simulate, config, home)
    return Shop(home, BatchParams.of(Settings(), config.end), _count(home))


def _simulate(config: object, home: Path) -> None:
    from streaming.simulator import simulate_lake

    simulate_lake(config, Lake(Home(home).ensure().lake))  # type: ignore[arg-type]


def _count(home: Path) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(name).num_rows for name in Lake(home / "lake").files("event"))


def by_expressions(shop: Shop, memory: str) -> None:
    """Build the groups as in production: Ibis on DuckDB."""
    from orchestration.builds.build import build_group

    home = Home(shop.home)
    for name, group in batch_groups().items():
        path = Builds(home.features).path(name, shop.params.as_of, group.version)
        path.unlink(missing_ok=True)  # unchanged groups would not be rebuilt
        build_group(group, shop.settings(memory), home, shop.params.as_of)


def by_hand(shop: Shop, memory: str) -> None:
    """Build the groups with hand-written SQL."""
    lake, out = Lake(shop.home / "lake"), shop.home / "by_hand"
    out.mkdir(exist_ok=True)
    files, (items,), (users,) = lake.files("event"), lake.files("item"), lake.files("user")
    segments = Builds(Home(shop.home).features).path("user_profile", shop.params.as_of)
    with duckdb_backend(memory, THREADS, shop.home / "spill_by_hand") as con:
        con.raw_sql("SET preserve_insertion_order = false")
        for name, sql in statements(files, items, users, shop.params).items():
            if name == "segment_profile":
                con.raw_sql(
                    "CREATE OR REPLACE TEMP TABLE segments AS SELECT user_id, segment "
                    f"FROM '{segments}' WHERE segment != 'all'"
                )
            for statement in sql[:-1]:
                con.raw_sql(statement)
            con.raw_sql(f"COPY ({sql[-1]}) TO '{out}/{name}.parquet' (FORMAT PARQUET, COMPRESSION ZSTD)")


def measure(name: str, shop: Shop, tiny: Shop, rounds: int, memory: str) -> list[Row]:
    """Compare seconds and peak memory with the hand-written SQL, after each has built a tiny shop.

    Headrace goes first in the first round, because `by_hand` reads its segments of users.
    """
    ours: list[Cost] = []
    hands: list[Cost] = []

    def build() -> float:
        ours.append(_ours(shop, tiny, memory))
        return ours[-1].seconds

    def write() -> float:
        spill = shop.home / "spill_by_hand"
        hands.append(apart(by_hand, shop, memory, warm=(tiny, MEMORY), spill=spill))
        return hands[-1].seconds

    pair = alternate(build, write, rounds=rounds, warmup=0)
    facts = {"events": shop.events, "memory_limit": memory}
    spilled = {"spilled_mib": round(max(c.spilled_mib for c in ours))}
    peak, peak_by_hand = max(c.peak_mib for c in ours), max(c.peak_mib for c in hands)
    baseline = "hand-written DuckDB SQL"
    return [
        Row(name, pair.value, "s", baseline, pair.baseline, pair.samples, facts),
        Row(f"{name}_memory", peak, "MiB", baseline, peak_by_hand, len(ours), {**facts, **spilled}),
    ]


def _ours(shop: Shop, tiny: Shop, memory: str) -> Cost:
    return apart(by_expressions, shop, memory, warm=(tiny, MEMORY), spill=shop.spill)


def run() -> Sequence[Row]:
    """Build a million events, then again with little memory, which must spill."""
    with tempfile.TemporaryDirectory() as name:
        tiny, shop = make_shop(Path(name), TINY), make_shop(Path(name), 1)
        rows = measure("batch_build", shop, tiny, ROUNDS, MEMORY)
        little = _ours(shop, tiny, LITTLE)
    facts = {"memory_limit": LITTLE, "spilled_mib": round(little.spilled_mib), "seconds": little.seconds}
    return [
        *rows,
        Row("batch_build_spill", little.peak_mib, "MiB", f"the same with {MEMORY}", rows[1].value, 1, facts),
    ]


def run_long(name: str) -> Sequence[Row]:
    """Build a larger shop, once on each side."""
    with tempfile.TemporaryDirectory() as folder:
        tiny, shop = make_shop(Path(folder), TINY), make_shop(Path(folder), SIZES[name])
        return measure(name, shop, tiny, 1, MUCH)


def run_bounded(name: str) -> Sequence[Row]:
    """Build a larger shop with the memory limit of the million, and compare it to the million."""
    with tempfile.TemporaryDirectory() as folder:
        tiny, one = make_shop(Path(folder), TINY), make_shop(Path(folder), 1)
        million = _ours(one, tiny, MEMORY)
        shop = make_shop(Path(folder), SIZES[name])
        whole = _ours(shop, tiny, MEMORY)
    facts = {"events": shop.events, "memory_limit": MEMORY, "seconds": whole.seconds}
    each = [cost.seconds / events * 1e6 for cost, events in ((whole, shop.events), (million, one.events))]
    spilled = {**facts, "spilled_mib": round(whole.spilled_mib)}
    baseline, peaks = "one million events", (whole.peak_mib, million.peak_mib)
    return [
        Row(f"{name}_bounded", each[0], "s/million", baseline, each[1], 1, facts),
        Row(f"{name}_bounded_memory", peaks[0], "MiB", baseline, peaks[1], 1, spilled),
    ]


RUNS = {"batch_build": run}
if os.environ.get("HEADRACE_BENCH_LONG"):
    for _size in ("batch_build_10m", "batch_build_30m"):
        RUNS |= {_size: partial(run_long, _size), f"{_size}_bounded": partial(run_bounded, _size)}
