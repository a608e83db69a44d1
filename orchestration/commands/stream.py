"""`headrace stream`: keeps session features fresh."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("stream")(stream)


def stream(
    workers: Annotated[int, typer.Option(min=1, help="Processes; they share the partitions.")] = 1,
    to_end: Annotated[bool, typer.Option("--to-end", help="Stop at the end of the log.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(help="Prometheus port; 0 disables it (HEADRACE_STREAM_METRICS_PORT).")
    ] = None,
) -> None:
    """Read the event log and keep `session_profile` and `user_recent` fresh in the online store.

    Start it beside the API and leave it running:

        headrace stream --workers 2

    Ctrl-C or SIGTERM stops it. It resumes where it stopped; after a crash no event is lost or counted twice.
    `headrace status` shows its progress.
    """
    import logging

    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.processes.mode_switch import switch_mode
    from streaming.dataflow.service import run_stream

    given = {} if metrics_port is None else {"stream_metrics_port": metrics_port}
    settings = load_settings(**given)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    switch_mode(settings, Home(settings.home).ensure(), typer.echo)

    def started(metrics: str) -> None:
        where = f", metrics at {metrics}" if metrics else ""
        typer.echo(
            f"streaming {settings.event_log} → {settings.online_store} with {workers} worker(s){where}"
        )

    run_stream(settings, workers, started, to_end)
    typer.echo("stream stopped")
