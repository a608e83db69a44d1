"""`headrace ingest`: files into the event log and the lake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from streaming.ingest_counts import IngestCounts

SHOWN = 10
KINDS = {"events": "event", "items": "item", "users": "user"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest")(ingest_command)


def ingest_command(
    paths: Annotated[list[Path], typer.Argument(help="Files: JSON, CSV and its kin, Parquet; packed too.")],
    fmt: Annotated[
        str, typer.Option("--format", "-f", help="headrace, metarank, movielens or deskdrop.")
    ] = "headrace",
    kind: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option(
            "--kind", help="events, items or users, for files of one kind; else seen where it is clear."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a record was quarantined.")] = False,
) -> None:
    """Ingest events, items and users. The same file twice changes nothing.

    For example: `headrace ingest events.jsonl.gz`, `headrace ingest --kind items catalogue.csv`,
    `headrace ingest --format movielens ml-latest-small/`. Rejected rows are kept with their reason:
    `headrace quarantine list`.
    """
    from feature_repo.errors import SettingsError  # noqa: PLC0415
    from feature_repo.settings import load_settings  # noqa: PLC0415
    from streaming.ingest import IngestError, ingest  # noqa: PLC0415

    if kind is not None and kind not in KINDS:
        msg = f"--kind {kind}: one of {', '.join(KINDS)}"
        raise SettingsError(msg)
    settings = load_settings()
    failed: IngestError | None = None
    with _Bars() as progress:
        try:
            counts = ingest(paths, fmt, settings, KINDS.get(kind or ""), progress)  # type: ignore[arg-type]
        except IngestError as error:
            failed, counts = error, error.counts
    _print(counts, said=failed.refused if failed is not None else ())
    if failed is not None:
        raise typer.Exit(2)
    if strict and counts.quarantined:
        raise typer.Exit(1)


class _Bars:
    """A progress bar per file, on standard error so that pipes stay clean."""

    def __enter__(self) -> _Bars:
        from rich import progress as bar  # noqa: PLC0415
        from rich.console import Console  # noqa: PLC0415

        self._tasks: dict[Path, bar.TaskID] = {}
        self._progress = bar.Progress(
            bar.TextColumn("{task.description}"),
            bar.BarColumn(),
            bar.DownloadColumn(),
            bar.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        return self

    def __call__(self, path: Path, done: int, size: int) -> None:
        if not self._tasks:
            self._progress.start()
        if path not in self._tasks:
            self._tasks[path] = self._progress.add_task(path.name, total=size)
        self._progress.update(self._tasks[path], completed=done)

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._progress.stop()


def _print(counts: IngestCounts, said: Sequence[str]) -> None:
    """Print the counts, every problem and, last, a line for each refused file."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("")
    for heading in ("read", "accepted", "duplicate", "quarantined"):
        table.add_column(heading, justify="right")
    for kind, of_kind in counts.kinds.items():
        read = of_kind.accepted + of_kind.duplicate
        if read:
            table.add_row(f"{kind}s", f"{read:,}", f"{of_kind.accepted:,}", f"{of_kind.duplicate:,}", "")
    for reason, count in sorted(counts.reasons.items(), key=lambda pair: (-pair[1], pair[0])):
        table.add_row(f"rejected: {reason}", f"{count:,}", "", "", f"{count:,}")
    total = (counts.read, counts.accepted, counts.duplicate, counts.quarantined)
    table.add_row("all", *(f"{n:,}" for n in total), style="bold")
    Console().print(table)
    if counts.days:
        typer.echo(f"{len(counts.days):,} event days, {min(counts.days)} to {max(counts.days)}")
    if counts.unknown:
        most = sorted(counts.unknown.items(), key=lambda pair: -pair[1])[:SHOWN]
        named = ", ".join(f"{name} ({count:,})" for name, count in most)
        typer.echo(
            f"fields not in the contract, kept as text: {named}{' …' if len(counts.unknown) > SHOWN else ''}"
        )
    from feature_repo.printable import printable  # noqa: PLC0415

    for problem in (p for p in counts.problems if p not in said):
        typer.secho(f"warning: {printable(str(problem))}", fg=typer.colors.YELLOW, err=True)
    if counts.quarantined:
        typer.secho("rejected rows and reasons: headrace quarantine list", fg=typer.colors.YELLOW, err=True)
    for line in said:
        typer.secho(f"headrace: {line}", fg=typer.colors.RED, err=True)
