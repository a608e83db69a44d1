"""Writes measured figures from ``<home>/bench/*.json`` to ``docs/reference/benchmarks.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, BenchmarkError, Row

_FIELDS = ("name", "value", "unit", "baseline_name", "baseline_value", "samples")
_COMPUTED = {*_FIELDS, "ratio", "machine"}
_HEAD = (
    "| row | value | baseline | its value | ratio | samples | target |",
    "|---|--:|---|--:|--:|--:|---|",
)
_INTRO = """# Benchmarks

To measure on your machine:

    make bench                # all of them
    make bench NAME=rank_100  # one
    .venv/bin/python -m benchmarks --report   # write this page from what was measured

Each row has a baseline measured in the same run, alternating with the thing measured; *ratio* is value over
baseline and carries over to other machines better than the value does. Targets are those the project set
itself; a row that misses its target says so. Each run also writes `var/bench/<name>.json`.

`rank_…` is what a Python program sees through httpx, whose own cost is on both sides; `rank_…_socket` is the
same through a bare socket. Echo and raw fetch are the floor: nothing behind HTTP and Redis answers sooner
(ADR 0060). `batch_build` is the production path, in a process that has built a tiny shop before.
`HEADRACE_BENCH_LONG=1` adds `batch_build_10m` and `batch_build_30m`, which build once on each side with 18
GB, because with less the hand-written SQL runs out of memory; their `…_bounded`, ours with 2 GB beside a
million events; and `point_in_time_10m`, five million entity rows on ten million feature rows.
"""


def read_results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the stored rows by benchmark.

    Raises:
        BenchmarkError: nothing has been measured yet.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        found[path.stem] = content if isinstance(content, list) else [content]
    if not found:
        msg = f"{folder}: nothing measured yet; run make bench first"
        raise BenchmarkError(msg)
    return found


def read_rows(path: Path) -> list[Row]:
    """Return the rows that a benchmark wrote."""
    content = json.loads(path.read_text())
    return [row_of(fields) for fields in (content if isinstance(content, list) else [content])]


def row_of(fields: Mapping[str, Any]) -> Row:
    """Make a row from a JSON object, without additional facts."""
    return Row(**{name: fields[name] for name in _FIELDS})


def page(results: Mapping[str, Sequence[Mapping[str, Any]]], known: Mapping[str, Benchmark]) -> str:
    """Render the page, without results of benchmarks that no longer exist."""
    kept = {name: rows for name, rows in results.items() if name in known}
    parts = [_INTRO, _machines(kept)]
    for name, rows in kept.items():
        parts.append(f"## {name}\n\n{_about(known[name])}\n\n{_table(rows, known[name])}{_notes(rows)}")
    return "\n".join(parts)


def _machines(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    told = {
        f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}, Python {m['python']}"
        for rows in results.values()
        for m in (row["machine"] for row in rows)
    }
    return f"Measured on: {'; '.join(sorted(told))}.\n"


def _about(benchmark: Benchmark) -> str:
    """Return the module's docstring up to the first empty line."""
    return benchmark.about.partition("\n\n")[0].strip()


def _table(rows: Sequence[Mapping[str, Any]], benchmark: Benchmark) -> str:
    return "\n".join([*_HEAD, *_lines(rows, benchmark)]) + "\n"


def _lines(rows: Sequence[Mapping[str, Any]], benchmark: Benchmark) -> list[str]:
    lines = []
    for fields in rows:
        row = row_of(fields)
        target = benchmark.targets.get(row.name)
        verdict = "" if target is None else f"{target} {'✓' if target.met(row) else '✗ missed'}"
        lines.append(
            f"| `{row.name}` | {figure(row.value)} {row.unit} | {row.baseline_name} "
            f"| {figure(row.baseline_value)} {row.unit} | {ratio(row)} | {row.samples} | {verdict} |"
        )
    return lines


def _notes(rows: Sequence[Mapping[str, Any]]) -> str:
    """List additional facts of the rows."""
    lines = []
    for fields in rows:
        facts = [f"{k} {_plain(v)}" for k, v in fields.items() if k not in _COMPUTED and _is_plain(v)]
        if facts:
            lines.append(f"- `{fields['name']}`: {', '.join(facts)}")
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _plain(value: Any) -> str:
    return figure(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def figure(value: float) -> str:
    """Format with three significant digits below a thousand, or else as an integer with separators."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratio(row: Row) -> str:
    """Format value over baseline, or a dash if the baseline is zero."""
    return "–" if isnan(row.ratio) else f"{row.ratio:.3g}"
