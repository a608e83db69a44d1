"""``headrace up``: serving, the stream and Dagster together."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command("up")(up)


def up() -> None:
    """Start serving, the stream and Dagster's UI together; Ctrl-C stops all three.

    If one exits, it is restarted after 1 s, then 2 s, up to a minute; the others keep running.

    Ports are HEADRACE_DAGSTER_PORT (3000) and HEADRACE_PORT (8080); 0 lets the system choose. Logs are in
    HEADRACE_HOME/logs.

    Example: `HEADRACE_PORT=8081 headrace up`
    """
    from rich.console import Console
    from rich.markup import escape

    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.processes import up as running
    from orchestration.processes.mode_switch import switch_mode

    console = Console(highlight=False, soft_wrap=True)
    settings = load_settings()
    home = Home(settings.home).ensure()
    stop = running.stop_on_signals()
    switch_mode(settings, home, lambda said: console.print(said, markup=False))
    if hint := running.demo_hint(settings, home):
        console.print(hint, markup=False)
    console.print("starting serving, then the stream, then Dagster …")
    waiting = {"serving", "stream", "dagster"}

    def tell(name: str, what: str, ready: bool = False) -> None:
        console.print(f"[bold]{name:8}[/bold] {escape(what)}")
        if ready and waiting:
            waiting.discard(name)
            if not waiting:
                console.print("all three are running; Ctrl-C stops them")

    running.up(settings, tell, stop)
    console.print("stopped")
