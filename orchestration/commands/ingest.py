"""`headrace ingest`: read files into the event log and the lake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from feature_repo.contract.validation import Kind
    from feature_repo.settings import Settings
    from streaming.ingest.counts import IngestCounts
    from streaming.ingest.inputs import Inputs

SHOWN = 10
KINDS: dict[str, Kind] = {"events": "event", "items": "item", "users": "user"}


def register(app: typer.Typer) -> None:
    app.command("ingest")(ingest_command)


def ingest_command(  # noqa: PLR0917 - one per option
    paths: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads the annotation at run time
        typer.Argument(
            help="Files, also compressed: JSON, CSV and other delimited text, Parquet; or http(s)://, s3://, gs://."
        ),
    ] = None,
    fmt: Annotated[
        str, typer.Option("--format", "-f", help="Format, as metarank; `--format list` lists them.")
    ] = "headrace",
    mapping: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--map",
            "-m",
            metavar="FILE|PRESET",
            help="For files of another shape: a mapping (TOML) or a preset: ga4, snowplow, segment, "
            "rudderstack, posthog, rees46, retailrocket, yoochoose, yoochoose-buys, otto, recbole, "
            "movielens, metarank.",
        ),
    ] = None,
    suggest: Annotated[
        bool,
        typer.Option("--suggest", help="Propose a mapping, show the records it gives; write nothing."),
    ] = False,
    sql: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SELECT", help="Ingest the result of a DuckDB query."),
    ] = None,
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--kind", help="events, items or users, for files of one kind; default: recognized where clear."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if a record was quarantined.")] = False,
) -> None:
    """Ingest events, items and users. Ingesting a file again changes nothing.

    Files in Headrace's own shape:

        headrace ingest events.jsonl.gz
        headrace ingest --kind items catalogue.csv

    Your own export: check the proposed mapping, then ingest with it:

        headrace ingest export.csv --suggest
        headrace ingest export.csv --suggest > mapping.toml
        headrace ingest export.csv --map mapping.toml

    A known shape, a query, a remote file:

        headrace ingest 2019-Oct.csv.gz --map rees46
        headrace ingest --sql "SELECT * FROM 'x.parquet'" --map mapping.toml
        headrace ingest https://example.com/events.csv --map mapping.toml

    Rejected rows are kept with a reason: headrace quarantine list.
    """
    from feature_repo.errors import SettingsError
    from feature_repo.settings import load_settings
    from streaming.ingest.files import IngestError, ingest
    from streaming.ingest.inputs import inputs
    from streaming.sources.formats import format_names, format_of

    if kind is not None and kind not in KINDS:
        msg = f"--kind {kind}: choose one of {', '.join(KINDS)}"
        raise SettingsError(msg)
    if fmt == "list":
        typer.echo("\n".join(f"{name}: {format_of(name).sentence}" for name in format_names()))
        return
    if not paths and sql is None:
        msg = 'nothing to ingest; give files, URLs or --sql "SELECT …"; examples: headrace ingest --help'
        raise SettingsError(msg)
    settings = load_settings()
    of_kind: Kind | None = KINDS.get(kind or "")
    failed: IngestError | None = None
    with _Bars() as progress, inputs(paths or (), sql, settings, progress) as given:
        if suggest:
            progress.stop()
            _suggest(given, mapping, settings, of_kind)
            return
        fmt = _format(fmt, mapping, settings)
        counts = None
        if given.paths:
            try:
                counts = ingest(given.paths, fmt, settings, of_kind, progress, given.names)
            except IngestError as error:
                failed, counts = error, error.counts
    said = (*given.refused, *(failed.refused if failed is not None else ()))
    if counts is not None:
        _print(counts, said)
    else:
        _refused(said)
    if said:
        raise typer.Exit(2)
    if strict and counts is not None and counts.quarantined:
        raise typer.Exit(1)


def _format(fmt: str, mapping: str | None, settings: Settings) -> str:
    """Return the format for a name or a mapping; some mappings are formats themselves."""
    from feature_repo.errors import SettingsError
    from feature_repo.home import Home
    from streaming.mapping.saved import format_of
    from streaming.sources import DEFAULT, format_names

    if mapping is None:
        return fmt
    if fmt != DEFAULT:
        msg = f"--format {fmt} and --map {mapping}: give only one of the two"
        raise SettingsError(msg)
    if mapping in format_names():
        return mapping
    return format_of(mapping, Home(settings.home).ensure().mappings)


def _suggest(given: Inputs, mapping: str | None, settings: Settings, kind: Kind | None) -> None:
    """Print the proposed mapping of each file, or try the given one."""
    from orchestration.mapping_trial import print_trial
    from streaming.ingest.inputs import QUERY, input_file
    from streaming.mapping.saved import by_name
    from streaming.mapping.trial import proposed, suggest, try_mapping

    for path in given.paths:
        file = input_file(path, settings, given.names)
        if mapping is None:
            text = suggest(file, kind)
            typer.echo(text)
            found = proposed(text)
        else:
            found = by_name(mapping)
        shown = file.name if file.name != QUERY else '--sql "…"'
        print_trial(shown, try_mapping(found, file, settings, kind), mapping)
    _refused(given.refused)
    if given.refused:
        raise typer.Exit(2)


class _Bars:
    """Shows a progress bar per file on standard error, so that pipes stay clean."""

    def __enter__(self) -> _Bars:
        from rich import progress as bar
        from rich.console import Console

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
            self._tasks[path] = self._progress.add_task(path.name, total=size or None)
        self._progress.update(self._tasks[path], completed=done, total=size or None)

    def stop(self) -> None:
        """Stop the bars, so that other output can be printed."""
        if self._tasks:
            self._progress.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _print(counts: IngestCounts, said: Sequence[str]) -> None:
    """Print the counts, every problem, and finally a line for each refused file."""
    from rich.console import Console
    from rich.table import Table

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
        first, last = min(counts.days), max(counts.days)
        days = (
            f"{len(counts.days):,} event days, {first} to {last}"
            if first != last
            else f"1 event day, {first}"
        )
        typer.echo(days)
    if counts.unknown:
        most = sorted(counts.unknown.items(), key=lambda pair: -pair[1])[:SHOWN]
        named = ", ".join(f"{name} ({count:,})" for name, count in most)
        more = " …" if len(counts.unknown) > SHOWN else ""
        typer.echo(f"fields not in the contract, kept as properties or attributes: {named}{more}")
    from feature_repo.printable import printable

    for problem in (p for p in counts.problems if p not in said):
        typer.secho(f"warning: {printable(str(problem))}", fg=typer.colors.YELLOW, err=True)
    if counts.quarantined:
        typer.secho("rejected rows and reasons: headrace quarantine list", fg=typer.colors.YELLOW, err=True)
    for note in counts.notes:
        typer.echo(printable(note))
    _refused(said)


def _refused(lines: Sequence[str]) -> None:
    for line in lines:
        typer.secho(f"headrace: {line}", fg=typer.colors.RED, err=True)
