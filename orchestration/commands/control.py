"""`headrace flags` and `headrace rules`: what people change while servers run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from serving.control.change_log import Change
    from serving.control.flag_store import FlagStore
    from serving.control.rule_store import RuleStore
    from serving.control.versions import Versions

flags = typer.Typer(
    no_args_is_help=True, help="Flags of running servers: get, set, import, roll back, history."
)
rules = typer.Typer(
    no_args_is_help=True, help="Business rules of running servers: get, import, roll back, history."
)


def register(app: typer.Typer) -> None:
    app.add_typer(flags, name="flags")
    app.add_typer(rules, name="rules")


@flags.command("get")
def get_flags(flag: Annotated[str | None, typer.Argument(help="One flag; default: all.")] = None) -> None:
    """Print the flags as JSON.

    Example: `headrace flags get weights`
    """
    import msgspec

    from feature_repo.printable import printable
    from serving.control.flags import FIELDS, FlagsError

    found: Any = msgspec.to_builtins(_flags().load())
    for part in flag.split(".") if flag else ():
        if not isinstance(found, dict) or part not in found:
            message = f"flags: {flag!r} is not a flag; the flags are {', '.join(FIELDS)}"
            raise FlagsError(part, message)
        found = found[part]
    typer.echo(printable(msgspec.json.format(msgspec.json.encode(found), indent=2).decode(), "\n"))


@flags.command("set")
def set_flags(
    changes: Annotated[list[str], typer.Argument(help="flag=value; the value is JSON, otherwise text.")],
) -> None:
    """Change flags; every worker applies them within a second.

    Example: `headrace flags set personalization=false cap.positions=20 'weights={"session": 0.5}'`
    """
    store = _flags()
    _show_change(store, lambda who: store.change(dict(map(_assignment, changes)), who))


@rules.command("get")
def get_rules() -> None:
    """Print the rules as JSON.

    Example: `headrace rules get > rules.json`
    """
    store = _rules()
    typer.echo(store.encode(store.load()).decode(), nl=False)


def _add_common(commands: typer.Typer, opened: Callable[[], Versions[Any]], noun: str) -> None:
    """Add the commands that flags and rules share."""

    @commands.command("import", help=f"Replace all {noun} by those of a JSON file, as `get` prints them.")
    def import_(file: Annotated[str, typer.Argument(help="The file; - reads standard input.")]) -> None:
        store = opened()
        value = store.parse(_read(file))
        _show_change(store, lambda who: store.update(lambda _: value, who))

    @commands.command("rollback", help=f"Restore the previous {noun}; repeat to go further back.")
    def rollback() -> None:
        store = opened()
        _show_change(store, store.rollback, "the file was malformed and never in force; it is replaced")

    @commands.command("history", help=f"Show who changed which of the {noun}, when, from what to what.")
    def history(last: Annotated[int, typer.Option(help="How many changes.")] = 20) -> None:
        from feature_repo.printable import printable

        for change in opened().history()[-last:]:
            when = change.when.isoformat(timespec="seconds")
            typer.echo(f"{change.version}  {when}  {printable(change.who)}")
            _print(change)


def _show_change(
    store: Versions[Any],
    change: Callable[[str], object],
    otherwise: str = "",
) -> None:
    """Make a change and print it, or `otherwise` if it adds no version."""
    from serving.control.versions import whoami

    before = len(store.history())
    change(whoami())
    if len(done := store.history()) == before:
        typer.echo(otherwise or f"nothing changed: the {store.name} already have these values")
    else:
        _print(done[-1])


def _print(change: Change[Any]) -> None:
    import msgspec

    from feature_repo.printable import printable

    for path, values in change.differences().items():
        before, after = (msgspec.json.encode(value).decode() for value in values)
        typer.echo(printable(f"   {path}: {before} → {after}"))


def _read(file: str) -> bytes:
    import sys
    from pathlib import Path

    from feature_repo.errors import SettingsError

    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        msg = f"{file}: cannot be read ({error.strerror})"
        raise SettingsError(msg) from error


def _flags() -> FlagStore:
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from serving.control.flag_store import FlagStore

    settings = load_settings()
    home = Home(settings.home).ensure()
    return FlagStore(home.flags, settings.clock, home.last_good)


def _rules() -> RuleStore:
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from serving.control.rule_store import RuleStore

    settings = load_settings()
    home = Home(settings.home).ensure()
    return RuleStore(home.flags, settings.clock, home.last_good)


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


_add_common(flags, _flags, "flags")
_add_common(rules, _rules, "rules")
