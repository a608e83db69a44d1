"""``headrace up``: everything that runs, together."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up() -> None:
    """Start Dagster's UI, the stream and serving together; Ctrl-C stops all three.

    Ports are HEADRACE_DAGSTER_PORT (3000) and HEADRACE_PORT (8080); 0 lets the system choose. Logs are in
    HEADRACE_HOME/logs.

    Example: `HEADRACE_PORT=8081 headrace up`
    """
    from rich.console import Console  # noqa: PLC0415 - nothing is loaded before the command runs

    from feature_repo.home import Home  # noqa: PLC0415
    from feature_repo.settings import load_settings  # noqa: PLC0415
    from orchestration import up as running  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    settings = load_settings()
    Home(settings.home).ensure()
    stop = running.stop_on_signals()
    console.print("starting Dagster, the stream and serving …")

    def tell(name: str, where: str) -> None:
        console.print(f"[bold]{name:8}[/bold] {where}")
        if name == "dagster":
            console.print("all three run; Ctrl-C stops them")

    running.up(settings, tell, stop)
    console.print("stopped")
