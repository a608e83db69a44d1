"""`headrace quarantine`: rejected records, the reasons, and how to retry them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from quality.quarantine.store import Entry, Quarantine

quarantine = typer.Typer(no_args_is_help=True, help="Rejected records: list, show, retry after a fix.")


def register(app: typer.Typer) -> None:
    app.add_typer(quarantine, name="quarantine")


def _open() -> Quarantine:
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from quality.quarantine.store import Quarantine

    settings = load_settings()
    return Quarantine.of(settings, Home(settings.home))


@quarantine.command("list")
def list_command(
    code: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option(help="Only this reason, e.g. missing_field."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many records.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="Include records already replayed.")] = False,
) -> None:
    """List rejected records, oldest first, and count them by reason.

    For example: `headrace quarantine list --code time_out_of_range`.
    """
    from collections import Counter

    from feature_repo.printable import printable

    held = _open()
    reasons: Counter[str] = Counter()
    for entry in held.entries(code=code, pending=not everything):
        reasons[entry.code] += 1
        if reasons.total() <= limit:
            typer.echo(f"{entry.id[:8]}  {entry.first_seen:%Y-%m-%d %H:%M:%S}  {entry.code}  {_place(entry)}")
            typer.echo(f"          {printable(entry.message)}")
    for day, count in held.not_kept().items():
        typer.echo(
            f"{day}: {count:,} further rejected records were counted but not kept: the quarantine was full"
        )
    if not reasons:
        typer.echo("Nothing in quarantine.")
        return
    if reasons.total() > limit:
        typer.echo(f"… and {reasons.total() - limit:,} more (--limit)")
    typer.echo(", ".join(f"{name}: {count:,}" for name, count in reasons.most_common()))


def _place(entry: Entry) -> str:
    from feature_repo.printable import printable

    source = printable(entry.source)
    return source if entry.line is None else f"{source}:{entry.line}"


@quarantine.command("show")
def show_command(
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="The id as `list` prints it, or more of it.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Print only the record, byte for byte, for a file or a pipe.")
    ] = False,
) -> None:
    """Show one rejected record; control characters and bytes that are not UTF-8 are escaped.

    For example: `headrace quarantine show 1f0c9ab2`, or `headrace quarantine show 1f0c9ab2 --raw > record`.
    """
    from feature_repo.errors import LakeError
    from feature_repo.printable import printable

    entry = _open().find(entry_id)
    if entry is None:
        msg = f"quarantine: no single record's id starts with {entry_id!r}; see `headrace quarantine list`"
        raise LakeError(msg)
    if raw:
        typer.echo(entry.raw, nl=False)
        return
    typer.echo(f"id          {entry.id}")
    typer.echo(f"source      {_place(entry)} (format {entry.format})")
    typer.echo(f"first seen  {entry.first_seen.isoformat()}")
    typer.echo(f"retried     {entry.retried.isoformat() if entry.retried else 'no'}")
    typer.echo(f"reason      {entry.code}{f', field {printable(entry.field)}' if entry.field else ''}")
    typer.echo(f"            {printable(entry.message)}")
    typer.echo("")
    typer.echo(printable(entry.raw.decode("utf-8", "backslashreplace"), "\n\t"))


@quarantine.command("retry")
def retry_command(
    entry_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Only records whose id starts with this.")
    ] = "",
    code: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option(help="Only this reason, e.g. unknown_event_type."),
    ] = None,
    mapping: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--map", metavar="FILE|PRESET", help="Read mapped records with this corrected mapping."),
    ] = None,
) -> None:
    """Replay pending records after a fix. Records that pass now go through the log into the lake, once.

    For example, after registering a type: `HEADRACE_EVENT_WEIGHTS=wink=1 headrace quarantine retry --code
    unknown_event_type`; after correcting the mapping: `headrace quarantine retry --map mapping.toml`.
    """
    from feature_repo.errors import LakeError
    from feature_repo.settings import load_settings
    from streaming.ingest.quarantine_retry import retry

    counts = retry(load_settings(), code, entry_id, mapping)
    if entry_id and not counts.total:
        msg = f"quarantine: no pending record's id starts with {entry_id!r}; see `headrace quarantine list`"
        raise LakeError(msg)
    typer.echo(f"replayed {counts.replayed:,}, still rejected {counts.failed:,}, skipped {counts.skipped:,}")
    if counts.skipped:
        typer.echo(
            "skipped entries are not whole records (cut or unreadable files): fix the source, ingest it again"
        )
