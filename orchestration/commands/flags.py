"""`headrace flags`: settings changed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from serving.control.flag_audit import Change
    from serving.control.flag_store import FlagStore

commands = typer.Typer(no_args_is_help=True, help="Flags of running servers: get, set, roll back, history.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="flags")


@commands.command("get")
def get(flag: Annotated[str | None, typer.Argument(help="One flag; default: all.")] = None) -> None:
    """Print the flags as JSON.

    Example: `headrace flags get weights`
    """
    import msgspec

    from feature_repo.printable import printable
    from serving.control.flags import FIELDS, FlagsError

    flags: Any = msgspec.to_builtins(_store().load())
    for part in flag.split(".") if flag else ():
        if not isinstance(flags, dict) or part not in flags:
            message = f"flags: {flag!r} is not a flag; the flags are {', '.join(FIELDS)}"
            raise FlagsError(part, message)
        flags = flags[part]
    typer.echo(printable(msgspec.json.format(msgspec.json.encode(flags), indent=2).decode(), "\n"))


@commands.command("set")
def set_(
    changes: Annotated[list[str], typer.Argument(help="flag=value; the value is JSON, otherwise text.")],
) -> None:
    """Change flags; every worker applies them within a second.

    Example: `headrace flags set personalization=false cap.positions=20 'weights={"session": 0.5}'`
    """
    from serving.control.flag_store import whoami

    store = _store()
    version = _version(store)
    store.change(dict(map(_assignment, changes)), whoami())
    if _version(store) == version:
        typer.echo("nothing changed: the flags already have these values")
    else:
        _print(store.history()[-1])


@commands.command("rollback")
def rollback() -> None:
    """Restore the previous set of flags; repeat to go further back.

    Example: `headrace flags rollback`
    """
    from serving.control.flag_store import whoami

    store = _store()
    version = _version(store)
    store.rollback(whoami())
    if _version(store) == version:
        typer.echo(
            "the flags file was malformed or missing and never in force; the last good set replaces it"
        )
    else:
        _print(store.history()[-1])


@commands.command("history")
def history(last: Annotated[int, typer.Option(help="How many changes.")] = 20) -> None:
    """Show who changed which flag, when, from which value to which.

    Example: `headrace flags history --last 5`
    """
    from feature_repo.printable import printable

    for change in _store().history()[-last:]:
        when = change.when.isoformat(timespec="seconds")
        typer.echo(f"{change.version}  {when}  {printable(change.who)}")
        _print(change)


def _store() -> FlagStore:
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from serving.control.flag_store import FlagStore

    settings = load_settings()
    return FlagStore(Home(settings.home).ensure().flags, settings.clock)


def _version(store: FlagStore) -> int:
    """Return the version of the newest recorded change."""
    done = store.history()
    return done[-1].version if done else 0


def _print(change: Change) -> None:
    import msgspec

    from feature_repo.printable import printable

    for path, values in change.differences().items():
        before, after = (msgspec.json.encode(value).decode() for value in values)
        typer.echo(printable(f"   {path}: {before} → {after}"))


def _assignment(text: str) -> tuple[str, Any]:
    import msgspec

    from serving.control.flags import FlagsError

    name, sign, value = text.partition("=")
    if not sign:
        message = f"flags: {text!r} is not flag=value; write e.g. personalization=false"
        raise FlagsError(text, message)
    try:
        return name.strip(), msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name.strip(), value
