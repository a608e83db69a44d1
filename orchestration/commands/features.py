"""`headrace features`: declared features and published services."""

from __future__ import annotations

import typer

features = typer.Typer(no_args_is_help=True, help="Declared features and published feature services.")


def register(app: typer.Typer) -> None:
    app.add_typer(features, name="features")


@features.command("list")
def list_command() -> None:
    """List the published services and the features that none of them serves.

    For example: `headrace features list`.
    """
    from feature_repo.groups import all_groups
    from feature_repo.services import published

    services = published()
    for service in services:
        count = sum(len(view.features) for view in service.views)
        typer.echo(f"{service.name}: {count} features of {len(service.views)} groups")
    newest = {(v.view, f.name) for s in services[-1:] for v in s.views for f in v.features}
    declared = [(g.view_name, name) for g in all_groups().values() for name in g.feature_names]
    for view, name in declared:
        if (view, name) not in newest:
            typer.echo(f"not published: {view}:{name}")


@features.command("publish")
def publish_command() -> None:
    """Publish every declared feature as the next feature service; earlier services do not change.

    A new feature is built and stored even before it is published. Consumers that ask for a service can read
    it from the next service on. For example: `headrace features publish`.
    """
    from feature_repo.groups import all_groups
    from feature_repo.services import publish

    path = publish(all_groups().values())
    if path is None:
        typer.echo("Nothing to publish: the newest service serves every declared feature.")
        return
    typer.echo(f"Published {path.stem}: feature_repo/services/{path.name}. Commit the file; never edit it.")
