"""`headrace contract`: the published schema, and whether a new version is compatible with an old one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

contract = typer.Typer(
    no_args_is_help=True, help="The event contract: its JSON Schema, and compatibility checks."
)


def register(app: typer.Typer) -> None:
    app.add_typer(contract, name="contract")


@contract.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of this version.

    For example: `headrace contract schema > event.schema.json`.
    """
    import json

    from feature_repo.contract.validation import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@contract.command("check")
def check_command(
    old: Annotated[Path, typer.Argument(help="JSON Schema in use.")],
    new: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time
        typer.Argument(help="JSON Schema to replace it; default: this version's."),
    ] = None,
) -> None:
    """Say whether NEW may replace OLD, and if not, why. Exit 0 if compatible, else 1.

    Adding an optional field is compatible; removing, renaming, narrowing and requiring a field are not.
    For example: `headrace contract check docs/event.schema.json new.schema.json`.
    """
    from feature_repo.contract.evolution import compare
    from feature_repo.contract.validation import json_schema

    changes = compare(_read(old), json_schema() if new is None else _read(new))
    for change in changes:
        word, color = (
            ("ok      ", typer.colors.GREEN) if change.compatible else ("BREAKING", typer.colors.RED)
        )
        typer.echo(f"{typer.style(word, fg=color)}  {change.path}: {change.what}")
    breaking = sum(not change.compatible for change in changes)
    if breaking:
        typer.echo(f"Not compatible: {breaking} of {len(changes)} changes break old records.")
        raise typer.Exit(1)
    typer.echo(f"Compatible: {len(changes)} changes." if changes else "Compatible: no change.")


def _read(path: Path) -> dict[str, Any]:
    import json

    from feature_repo.errors import SourceError

    try:
        schema = json.loads(path.read_text())
    except FileNotFoundError:
        msg = f"{path}: no such file; `headrace contract schema > {path.name}` writes this version's schema"
        raise SourceError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{path}: not a JSON Schema ({error})"
        raise SourceError(msg) from error
    if not isinstance(schema, dict) or "$defs" not in schema:
        msg = f"{path}: not a schema of this contract; `headrace contract schema` prints a valid one"
        raise SourceError(msg)
    return schema
