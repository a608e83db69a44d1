"""`headrace status`: what is running, and how far behind it is."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status() -> None:
    """Show what is running and how far behind it is; exit code 1 if something is stale or missing.

        headrace status

    Lag is how stale session features may be: the silence of a partition's heartbeat and its backlog. Event
    lag is the age of the newest event. Counts start when the stream starts.
    """
    from rich.console import Console
    from rich.table import Table

    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.monitoring.status import sections

    settings = load_settings()
    console = Console()
    found = sections(settings, Home(settings.home))
    for section in found:
        table = Table(title=section.title, title_justify="left")
        for number, column in enumerate(section.columns):
            figures = all(row[number][:1].isdigit() for row in section.rows)
            table.add_column(column, justify="right" if figures else "left")
        for row in section.rows:
            table.add_row(*map(_shown, row))
        console.print(table if section.columns else _shown(section.title))
        if section.note:
            console.print(_shown(section.note))
    raise typer.Exit(0 if all(section.healthy for section in found) else 1)


def _shown(text: str) -> str:
    """Escape control characters and Rich's markup, so that the text is shown literally."""
    from rich.markup import escape

    from feature_repo.printable import printable

    return escape(printable(text))
