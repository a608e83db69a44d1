"""Discovers and runs benchmarks: rows with a baseline from the same run, written as JSON.

A benchmark module ``benchmarks/<name>.py`` defines ``run() -> list[Row]``. Optionally it also defines:

- ``NAMES``: names of its benchmarks, if they differ from the module's; or
- ``RUNS``: function by name, if each can run alone;
- ``TARGETS``: `Target` by row name, shown in the table;
- ``LIMITS``: time limit in seconds by name, if it may take longer than others.

A row belongs to the benchmark whose name it equals or continues (``rank_100_p99`` belongs to ``rank_100``).

    >>> from benchmarks.harness import Row, alternate, timed
    >>> pair = alternate(timed(lambda: sorted(range(1000))), timed(lambda: list(range(1000))), rounds=3)
    >>> Row("sort", pair.value, "s", "list", pair.baseline, pair.samples).ratio > 0
    True
"""

from __future__ import annotations

import json
import math
import os
import pkgutil
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import benchmarks
from feature_repo.errors import HeadraceError

_NOT_BENCHMARKS = {"harness", "report"}


class BenchmarkError(HeadraceError):
    """A benchmark is unknown or yields no row. The message lists the known ones."""


@dataclass(frozen=True)
class Row:
    """One figure and its baseline, measured alternately in the same run.

    Attributes:
        unit: unit of `value` and `baseline_value` (``s``, ``ms``, ``rows/s``, …).
        samples: number of measurements behind the value.
        extra: additional facts for the JSON (peak memory, row counts, a note).
    """

    name: str
    value: float
    unit: str
    baseline_name: str
    baseline_value: float
    samples: int
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """``value / baseline_value``; NaN if the baseline is zero."""
        return self.value / self.baseline_value if self.baseline_value else float("nan")


@dataclass(frozen=True)
class Target:
    """An upper or lower bound on the value or the ratio of a row."""

    bound: float
    of: Literal["value", "ratio"] = "value"
    side: Literal["at most", "at least"] = "at most"

    def met(self, row: Row) -> bool:
        """Whether the row meets the bound."""
        figure = row.value if self.of == "value" else row.ratio
        return figure <= self.bound if self.side == "at most" else figure >= self.bound

    def __str__(self) -> str:
        sign = "≤" if self.side == "at most" else "≥"
        return f"{sign} {self.bound:g}{' × baseline' if self.of == 'ratio' else ''}"


@dataclass(frozen=True)
class Pair:
    """Medians of a measurement and its baseline over alternating rounds."""

    value: float
    baseline: float
    samples: int
    values: tuple[float, ...] = ()
    baselines: tuple[float, ...] = ()


def timed(call: Callable[[], Any]) -> Callable[[], float]:
    """Return a measurement of the wall time of one call, in seconds."""

    def measure() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return measure


def alternate(
    thing: Callable[[], float], baseline: Callable[[], float], rounds: int = 5, warmup: int = 1
) -> Pair:
    """Measure thing and baseline in turn, so that a busy machine affects both equally.

    Args:
        thing: returns one measurement in the row's unit; see `timed`.
        baseline: returns one measurement of the baseline, in the same unit.
        rounds: number of measurements of each, after `warmup` discarded ones.
    """
    values, baselines = [], []
    for n in range(warmup + rounds):
        # Swap the order each round, so that neither always gets the warmer cache.
        order = (thing, baseline) if n % 2 == 0 else (baseline, thing)
        measured = {measure: measure() for measure in order}
        if n >= warmup:
            values.append(measured[thing])
            baselines.append(measured[baseline])
    return Pair(
        statistics.median(values), statistics.median(baselines), rounds, tuple(values), tuple(baselines)
    )


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the quantile `share` (0 … 1) of the samples, by nearest rank."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def latency_rows(
    name: str, ms: Sequence[float], baseline: str, of: Sequence[float], extra: Mapping[str, Any] | None = None
) -> list[Row]:
    """Make the rows ``<name>`` (median) and ``<name>_p99`` of times in ms, each with its baseline."""
    typical = Row(
        name, statistics.median(ms), "ms", baseline, statistics.median(of), len(ms), dict(extra or {})
    )
    tails = (percentile(found, 0.99) for found in (ms, of))
    return [typical, Row(f"{name}_p99", next(tails), "ms", f"{baseline}, p99", next(tails), len(ms))]


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory, system, Python. No host name."""
    info = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else ())
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its function, its targets, and its module's docstring."""

    name: str
    module: str
    run: Callable[[], Sequence[Row]]
    targets: Mapping[str, Target]
    about: str = ""
    limit_s: float = 0.0


def discover() -> dict[str, Benchmark]:
    """Find the benchmarks of every module of this package, by name."""
    found: dict[str, Benchmark] = {}
    for info in sorted(pkgutil.iter_modules(benchmarks.__path__), key=lambda m: m.name):
        if info.name.startswith("_") or info.name in _NOT_BENCHMARKS:
            continue
        module = import_module(f"{benchmarks.__name__}.{info.name}")
        runs = getattr(module, "RUNS", None)
        if runs is None and not hasattr(module, "run"):
            continue
        names = getattr(module, "NAMES", (info.name,))
        for name, run in (runs or dict.fromkeys(names, module.run)).items():
            limit_s = getattr(module, "LIMITS", {}).get(name, 0.0)
            found[name] = Benchmark(
                name, info.name, run, getattr(module, "TARGETS", {}), module.__doc__ or "", limit_s
            )
    return found


def select(found: Mapping[str, Benchmark], wanted: Sequence[str]) -> list[Benchmark]:
    """Select benchmarks by their own name, their module's or a row's; all if none is named.

    Raises:
        BenchmarkError: a name is unknown. The message lists the known ones.
    """
    chosen: dict[str, Benchmark] = {} if wanted else dict(found)
    for name in wanted:
        owner = owner_of(name, found)
        matches = [owner] if owner in found else [n for n, b in found.items() if b.module == name]
        if not matches:
            msg = f"no benchmark {name!r}; there are: {', '.join(sorted(found)) or 'none'}"
            raise BenchmarkError(msg)
        chosen.update({n: found[n] for n in matches})
    return list(chosen.values())


def owner_of(row_name: str, names: Iterable[str]) -> str:
    """Return the benchmark of a row: the longest name it equals or continues with ``_``, or else itself."""
    owners = [n for n in names if row_name == n or row_name.startswith(f"{n}_")]
    return max(owners, key=len, default=row_name)


def execute(chosen: Sequence[Benchmark], known: Iterable[str]) -> dict[str, list[Row]]:
    """Run benchmarks and group their rows by benchmark. A shared function runs once.

    Raises:
        BenchmarkError: a benchmark yielded no row of its name.
    """
    known, wanted = set(known), {b.name for b in chosen}
    rows: dict[str, list[Row]] = {b.name: [] for b in chosen}
    for run in dict.fromkeys(b.run for b in chosen):
        alone = [b.name for b in chosen if b.run is run]
        for row in run():
            owner = owner_of(row.name, known)
            if owner in wanted:
                rows[owner].append(row)
            elif owner not in known:
                rows[alone[0]].append(row)
    if empty := [name for name, some in rows.items() if not some]:
        msg = f"benchmark {', '.join(empty)} yielded no row of its name; name its rows {empty[0]}…"
        raise BenchmarkError(msg)
    return rows


def write(rows: Mapping[str, Sequence[Row]], folder: Path) -> list[Path]:
    """Write ``<folder>/<name>.json`` for each benchmark: one object, or a list of several rows."""
    folder.mkdir(parents=True, exist_ok=True)
    host = machine()
    paths = []
    for name, some in rows.items():
        objects = [{**asdict(row), "ratio": row.ratio, "machine": host} for row in some]
        for one in objects:
            one.update(one.pop("extra"))
        path = folder / f"{name}.json"
        path.write_text(json.dumps(objects[0] if len(objects) == 1 else objects, indent=2) + "\n")
        paths.append(path)
    return paths
