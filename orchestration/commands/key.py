"""`headrace key`: make an API key."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("key")(key)


def key(
    name: Annotated[str, typer.Argument(help="Name of the client; appears in the audit log.")],
    scope: Annotated[list[str], typer.Option(help="rank, events or admin; repeat for several.")],
) -> None:
    """Make an API key: the secret for the client, its hash for HEADRACE_API_KEYS.

    Example: `headrace key shop --scope rank --scope events`
    """
    from serving.api.api_keys import Scope, new_key, parse_keys

    parse_keys(f"{name}:{'+'.join(scope)}:{'0' * 64}")
    secret, entry = new_key(name, map(Scope, scope))
    typer.echo(f"secret, shown once, for the client:  {secret}")
    typer.echo(f"add to HEADRACE_API_KEYS:            {entry}")
