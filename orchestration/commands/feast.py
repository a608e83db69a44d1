"""`headrace feast`: Feast's own client and UI on Headrace's data."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

feast = typer.Typer(no_args_is_help=True, help="Feast's own client and UI on Headrace's data.")


def register(app: typer.Typer) -> None:
    app.add_typer(feast, name="feast")


@feast.command("client-config")
def client_config_command(
    output: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option("--output", "-o", help="File to write, readable by you alone; default: print."),
    ] = None,
    registry: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option(help="Path or URL of the registry as the client sees it; default: this home's."),
    ] = None,
) -> None:
    """Write a `feature_store.yaml` for a program that reads online features with Feast alone.

    The program needs `pip install feast[redis]`, this file and the registry, but not Headrace.

        headrace feast client-config --output feature_store.yaml --registry /shared/registry.db

    In the program: `FeatureStore(fs_yaml_file="feature_store.yaml").get_online_features(...)`. The file
    contains the password from HEADRACE_REDIS_URL.
    """
    import yaml

    from feature_repo.feast_store import client_config
    from feature_repo.home import Home
    from feature_repo.settings import load_settings

    settings = load_settings()
    config = client_config(settings, Home(Path(settings.home)), registry)
    text = yaml.safe_dump(config, sort_keys=False)
    if output is None:
        typer.echo(text, nl=False)
        return
    with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    typer.echo(f"Wrote {output}. The program also needs the registry: {config['registry']}")


@feast.command("ui")
def ui_command(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8888,
    host: Annotated[str, typer.Option(help="Address to bind; the UI asks for no key.")] = "127.0.0.1",
) -> None:
    """Open Feast's UI: entities, feature views and services, with their lineage.

    For example: `headrace feast ui`, then open http://127.0.0.1:8888.
    """
    from feature_repo.feast_store import apply
    from feature_repo.home import Home
    from feature_repo.settings import load_settings

    settings = load_settings()
    home = Home(Path(settings.home)).ensure()
    apply(settings, home)
    typer.echo(f"Feast's UI: http://{host}:{port} (Ctrl-C stops it)")
    arguments = ("-c", str(home.feast.resolve()), "ui", "--host", host, "--port", str(port))
    sys.stdout.flush()
    os.execv(sys.executable, (sys.executable, "-m", "feast.cli.cli", *arguments))
