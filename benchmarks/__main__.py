"""``python -m benchmarks [NAME …]``: run benchmarks and write ``<home>/bench/<name>.json``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Benchmark, Row, discover, execute, select, write
from benchmarks.report import page, read_results
from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.settings import load_settings

_console = Console()
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def table_of(rows: Sequence[tuple[Row, Benchmark]]) -> Table:
    """Figures beside their baselines, with the target where the module states one."""
    table = Table(title="Benchmarks (ratio = value / baseline, both from this run)")
    for heading, justify in (
        ("row", "left"), ("value", "right"), ("unit", "left"), ("baseline", "left"),
        ("its value", "right"), ("ratio", "right"), ("samples", "right"), ("target", "left"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row, benchmark in rows:
        target = benchmark.targets.get(row.name)
        verdict = "" if target is None else f"{target} {'met' if target.met(row) else 'NOT met'}"
        table.add_row(
            row.name, f"{row.value:,.4g}", row.unit, row.baseline_name,
            f"{row.baseline_value:,.4g}", f"{row.ratio:.3g}", str(row.samples), verdict,
        )  # fmt: skip
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks; none: all, e.g. `rank_100`.")] = None,
    *,
    listing: Annotated[bool, typer.Option("--list", help="Only list the names.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Only write docs/benchmarks.md from what was measured.")
    ] = False,
) -> None:
    """Run benchmarks; each writes its JSON as soon as it has finished."""
    found = discover()
    if listing:
        _console.print("\n".join(sorted(found)))
        return
    folder = Home(load_settings().home).ensure().root / "bench"
    if report:
        PAGE.write_text(page(read_results(folder), found))
        _console.print(f"wrote {PAGE}")
        return
    chosen = select(found, [n for n in names or () if n])
    done: list[tuple[Row, Benchmark]] = []
    failed = []
    for run in dict.fromkeys(b.run for b in chosen):
        group = [b for b in chosen if b.run is run]
        label = ", ".join(b.name for b in group)
        _console.print(f"running {label} …")
        try:
            rows = execute(group, found)
        except Exception:  # one benchmark that fails must not cost the figures of the others
            _console.print(traceback.format_exc(), markup=False)
            failed.append(label)
            continue
        for path in write(rows, folder):
            _console.print(f"wrote {path}")
        done.extend((row, found[name]) for name, some in rows.items() for row in some)
    _console.print(table_of(done))
    if failed:
        _console.print(f"failed: {', '.join(failed)}", style="red")
        raise typer.Exit(1)


if __name__ == "__main__":
    try:
        typer.run(main)
    except HeadraceError as error:
        _console.print(f"benchmarks: {error}", style="red")
        sys.exit(2)
