"""The `headrace` command. Each command is one module in `orchestration/commands/`; `pkgutil` finds them.

Command modules import nothing heavy at module level, so `headrace --help` answers at once.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

import typer

from feature_repo.errors import HeadraceError
from feature_repo.home import keep_private
from feature_repo.printable import printable
from orchestration import commands

app = typer.Typer(
    name="headrace",
    help="Events in, fresh features, a better ranking out. Start with `headrace demo`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _module in pkgutil.iter_modules(commands.__path__):
    import_module(f"{commands.__name__}.{_module.name}").register(app)


def main() -> None:
    """Run the command line; print a `HeadraceError` as one line and exit with code 2."""
    keep_private()
    try:
        app()
    except HeadraceError as error:
        said = printable(str(error), keep="\n")
        typer.secho(f"headrace: {said}", fg=typer.colors.RED, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
