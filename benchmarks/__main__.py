"""``python -m benchmarks [NAME …]``: run benchmarks and write ``<home>/bench/<name>.json``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Benchmark, Row, discover, execute, select, write
from benchmarks.report import figure, page, ratio, read_results, read_rows
from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.settings import load_settings

_console = Console()
LIMIT_S = 240.0
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "benchmarks.md"


def table_of(rows: Sequence[tuple[Row, Benchmark]]) -> Table:
    """Show figures beside their baselines, and the target if the module states one."""
    title = "Benchmarks (ratio = value / baseline, both of the same run)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("row", "value", "baseline", "ratio", "target"):
        table.add_column(
            heading,
            justify="right" if heading in {"value", "baseline", "ratio"} else "left",
            overflow="fold",  # never wrap a name on a narrow terminal
        )
    for row, benchmark in rows:
        target = benchmark.targets.get(row.name)
        verdict = "" if target is None else f"{target} {'met' if target.met(row) else 'NOT met'}"
        figures = (f"{figure(value)} {row.unit}" for value in (row.value, row.baseline_value))
        table.add_row(row.name, *figures, ratio(row), verdict)
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks; none: all, e.g. `rank_100`.")] = None,
    *,
    listing: Annotated[bool, typer.Option("--list", help="Only list the names.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the measured figures to the docs.")
    ] = False,
    here: Annotated[bool, typer.Option("--here", help="Run in this process, without a time limit.")] = False,
    limit_s: Annotated[float, typer.Option(help="Time limit of a benchmark in seconds.")] = LIMIT_S,
) -> None:
    """Run benchmarks, each in its own process. Each writes its JSON when it has finished."""
    found = discover()
    if listing:
        _console.print("\n".join(sorted(found)))
        return
    folder = Home(load_settings().home).ensure().root / "bench"
    if report:
        write_page(read_results(folder), found)
        return
    chosen = select(found, [n for n in names or () if n])
    if here:
        for path in write(execute(chosen, found), folder):
            _console.print(f"wrote {path}")
        return
    failed = {}
    done: list[tuple[Row, Benchmark]] = []
    for group in groups(chosen):
        own = [b.name for b in group]
        longest = max(limit_s, *(b.limit_s for b in group))
        _console.print(f"running {', '.join(own)} …")
        if problem := run_apart([sys.executable, "-m", "benchmarks", "--here", *own], longest):
            failed[", ".join(own)] = problem
        else:
            done.extend((row, b) for b in group for row in read_rows(folder / f"{b.name}.json"))
    _console.print(table_of(done))
    if failed:
        _console.print("failed: " + "; ".join(f"{n} ({why})" for n, why in failed.items()), style="red")
        raise typer.Exit(1)


def write_page(results: Mapping[str, Sequence[Mapping[str, Any]]], found: Mapping[str, Benchmark]) -> None:
    """Write the page of all benchmarks."""
    if (text := page(results, found)) != PAGE.read_text():
        PAGE.write_text(text)
        _console.print(f"wrote {PAGE}")


def groups(chosen: Sequence[Benchmark]) -> list[list[Benchmark]]:
    """Group benchmarks that share a function, which runs once for all of them."""
    return [[b for b in chosen if b.run is run] for run in dict.fromkeys(b.run for b in chosen)]


def run_apart(command: Sequence[str], limit_s: float) -> str:
    """Run a command in its own process group, so that one benchmark's memory does not affect another.

    Returns:
        The error, or an empty string.
    """
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"ended after {limit_s:g} s"
        finally:
            # Also kill servers that it started and did not stop.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return f"code {code}" if code else ""


if __name__ == "__main__":
    try:
        typer.run(main)
    except HeadraceError as error:
        _console.print(f"benchmarks: {error}", style="red")
        sys.exit(2)
