"""`headrace backfill`: history of stream groups, for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import date


def register(app: typer.Typer) -> None:
    backfill = typer.Typer(help="Write the history of stream groups for training.", no_args_is_help=True)
    backfill.command("sessions")(sessions)
    app.add_typer(backfill, name="backfill")


def sessions(
    start: Annotated[str, typer.Option("--from", help="First event day, e.g. 2024-06-01.")],
    end: Annotated[
        str | None, typer.Option("--to", help="Last event day, inclusive; default the first.")
    ] = None,
) -> None:
    """Run the stream's flow over the lake and write the history of `session_profile` as Parquet.

        headrace backfill sessions --from 2024-06-01 --to 2024-06-07

    Each event yields one row, stamped with its time: the session's features from that moment on. Each day is
    one file in HEADRACE_HOME/features/session_profile; running the command again replaces it.
    """
    from rich.console import Console

    from feature_repo.settings import load_settings
    from streaming.dataflow.backfill import backfill_sessions

    first, last = _day(start, "--from"), _day(end or start, "--to")
    if last < first:
        message = f"{last} is before --from {first}"
        raise typer.BadParameter(message, param_hint="--to")
    console = Console()
    with console.status("reading the lake") as status:

        def read_day(day: date) -> None:
            status.update(f"folding {day}")

        rows = backfill_sessions(load_settings(), first, last, read_day=read_day)
    for day, count in sorted(rows.items()):
        console.print(f"{day}  {count:,} rows")
    console.print(f"{sum(rows.values()):,} rows of session_profile")


def _day(text: str, option: str) -> date:
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is not a date; write e.g. 2024-06-01"
        raise typer.BadParameter(message, param_hint=option) from error
