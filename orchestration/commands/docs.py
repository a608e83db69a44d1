"""``headrace docs``: renews the reference pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:

    @app.command()
    def docs(
        out: Annotated[Path, typer.Option(help="Folder for the pages.")] = Path("docs/reference"),
        *,
        check: Annotated[
            bool, typer.Option("--check", help="Write nothing; fail if a page is out of date.")
        ] = False,
    ) -> None:
        """Write the reference from the declarations: a page per feature group and one for the settings.

        Example: `headrace docs` after adding a feature; `headrace docs --check` in CI.
        """
        from rich.console import Console

        from orchestration.reference_docs import pages, write_pages

        console = Console()
        if not check:
            changed = write_pages(out)
            console.print(f"{len(changed)} of {len(pages())} pages changed in {out}")
            return
        old = [
            n for n, text in pages().items() if not (out / n).exists() or (out / n).read_text("utf-8") != text
        ]
        if old:
            console.print(f"out of date in {out}: {', '.join(old)}; run `headrace docs`", soft_wrap=True)
            raise typer.Exit(1)
        console.print(f"{out} is current")
