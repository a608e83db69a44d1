"""Shows on standard error what a mapping makes of a file: ten records and every problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from feature_repo.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from feature_repo.contract.validation import Record
    from streaming.mapping.trial import Trial

_COLUMNS = {
    "event": ("event_time", "event_type", "user_id", "item_id", "session_id"),
    "item": ("item_id", "title", "categories", "price", "attributes"),
    "user": ("user_id", "attributes"),
}


def print_trial(name: str, trial: Trial, mapping: str | None) -> None:
    """Print records, problems, and what to do next."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    for kind, records in trial.records.items():
        _records(console, f"{len(records)} of {trial.kinds[kind]:,} {kind}s", kind, records)
    bad = sum(problem.count for problem in trial.problems.values())
    if bad:
        _problems(console, trial)
    for note in trial.notes:
        typer.echo(printable(note), err=True)
    if trial.repeated:
        typer.echo(f"{trial.repeated:,} events repeat an earlier id; each id counts once", err=True)
    good = sum(trial.kinds.values())
    where = "mapping.toml" if mapping is None else mapping
    colour = typer.colors.YELLOW if bad else typer.colors.GREEN
    typer.secho(f"of the first {trial.read:,} records {good:,} fit, {bad:,} do not", fg=colour, err=True)
    if mapping is None:
        typer.echo(f"save the mapping:  headrace ingest {printable(name)} --suggest > mapping.toml", err=True)
    typer.echo(f"then ingest:       headrace ingest {printable(name)} --map {where}", err=True)


def _records(console: Console, title: str, kind: str, records: Sequence[Record]) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left")
    rows = [[_cell(getattr(record, column)) for column in _COLUMNS[kind]] for record in records]
    shown = [place for place, _ in enumerate(_COLUMNS[kind]) if any(row[place] for row in rows)]
    names = [_COLUMNS[kind][place] for place in shown]
    rows = [[row[place] for place in shown] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(names, *rows, strict=True)]
    while sum(widths) > console.width - 3 * len(widths) - 1:
        widths[widths.index(max(widths))] -= 1
    for name, width in zip(names, widths, strict=True):
        table.add_column(name, no_wrap=True, width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _problems(console: Console, trial: Trial) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title="problems", title_justify="left", show_lines=True)
    table.add_column("records", justify="right")
    table.add_column("what", overflow="fold")
    table.add_column("e.g. rows", overflow="fold")
    for problem in sorted(trial.problems.values(), key=lambda p: -p.count):
        lines = ", ".join(str(line) for line, _ in problem.examples)
        what = Text(f"{problem.code}: {printable(problem.examples[0][1])}")
        table.add_row(f"{problem.count:,}", what, lines)
    console.print(table)


def _cell(value: object) -> str:
    from datetime import datetime  # noqa: PLC0415

    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case tuple():
            return printable(", ".join(map(str, value)))
        case dict():
            return printable(", ".join(f"{k}={v}" for k, v in value.items()))
    return printable(str(value))
