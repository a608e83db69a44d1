"""`headrace serve`: the ranking and events API."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to (HEADRACE_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 lets the system choose (HEADRACE_PORT).")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
) -> None:
    """Serve rankings and accept events over HTTP.

    Request a ranking with

        curl localhost:8080/v1/rank -d '{"user_id": "u1", "candidates": [{"item_id": "i1"}]}'

    The API is documented at /docs. Ctrl-C stops the server after it has finished the requests in flight.
    """
    import logging
    import os

    from feature_repo.settings import load_settings

    given = {"host": host, "port": port}
    overrides = {name: value for name, value in given.items() if value is not None}
    settings = load_settings(**overrides)
    # Workers read their settings from the environment, so command line options go there.
    os.environ.update({f"HEADRACE_{name.upper()}": str(value) for name, value in overrides.items()})
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    from feature_repo.errors import SettingsError
    from feature_repo.home import Home
    from feature_repo.run_mode import check_mode
    from serving.server import serve as run

    try:
        check_mode(settings, Home(settings.home))
    except SettingsError as error:
        typer.echo(f"warning: {error}", err=True)

    run(settings, lambda address: typer.echo(f"serving on {address} (docs at {address}/docs)"), workers)
