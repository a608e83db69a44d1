"""`headrace build`: run the Dagster chain in process, for one day or a range."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

_DAY = "%Y-%m-%d"


def register(app: typer.Typer) -> None:
    app.command()(build)


def build(
    start: Annotated[
        datetime | None, typer.Option("--from", formats=[_DAY], help="First event day; default: the newest.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=[_DAY], help="Last event day; default: same as --from.")
    ] = None,
) -> None:
    """Build, check and publish the batch features, as Dagster's UI does.

    The newest event day:

        headrace build

    A range, oldest first (older days become history for training; only the newest goes online):

        headrace build --from 2024-05-01 --to 2024-05-14
    """
    from rich.console import Console
    from rich.table import Table

    from feature_repo.settings import load_settings
    from orchestration.defs.run_chain import days_between, run_chain

    settings = load_settings()
    days = None if start is None else days_between(start.date(), (end or start).date())
    with Console(stderr=True).status("building …"):
        result = run_chain(settings, days)
    built = " … ".join(dict.fromkeys(str(day) for day in (result.days[0], result.days[-1])))
    table = Table(title=f"{built}, {result.seconds:.1f} s", title_justify="left")
    table.add_column("group")
    table.add_column("rows online", justify="right")
    for name, rows in result.rows.items():
        table.add_row(name, f"{rows:,}")
    Console().print(table)
