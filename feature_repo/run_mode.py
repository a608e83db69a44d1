"""What a home last ran with: its event log and online store, kept in the home to notice a change."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from feature_repo.errors import SettingsError
from feature_repo.files import write_file
from feature_repo.home import Home
from feature_repo.settings import Settings

FILE = "ran-with.json"


class Mode(Struct, frozen=True):
    """Kinds of log and store.

    Attributes:
        stores: counts changes of the store. The stream marks what it wrote with it, so that rows of an
            earlier time on the same store are not taken for its own.
    """

    event_log: str
    online_store: str
    stores: int = 0


def mode_of(settings: Settings, stores: int = 0) -> Mode:
    """The mode of the settings."""
    return Mode(settings.event_log, settings.online_store, stores)


def read_mode(home: Home) -> Mode | None:
    """The mode this home last ran with; `None` for a new home.

    A home of an earlier version is known by what it holds: the log its lake was filled from last, the file of
    the store.
    """
    path = home.root / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mode)
    except FileNotFoundError:
        return _inferred(home)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{path}: damaged ({error}); remove it: the event log and store of the settings are taken then"
        raise SettingsError(msg) from error


def check_mode(settings: Settings, home: Home) -> Mode | None:
    """The mode of this home, once it is that of the settings: positions of a log mean nothing to another.

    Raises:
        SettingsError: the home ran with another log or store; names the command that carries over.
    """
    was = read_mode(home) if (home.root / FILE).exists() else None
    if was is not None and was != mode_of(settings, was.stores):
        msg = (
            f"{home.root} last ran with {was.event_log} and {was.online_store}, the settings say "
            f"{settings.event_log} and {settings.online_store}: `headrace up` or `headrace stream` "
            "carries over what serving needs"
        )
        raise SettingsError(msg)
    return was


def write_mode(home: Home, mode: Mode) -> None:
    """Keep the mode, the file replaced as a whole."""
    write_file(home.root / FILE, msgspec.json.encode(mode))


def _inferred(home: Home) -> Mode | None:
    states = sorted(home.lake.glob("state-*.json"), key=lambda path: path.stat().st_mtime)
    if not states or not (home.stream / "state").exists():
        return None
    store = "sqlite" if (home.feast / "online.db").exists() else "redis"
    return Mode(states[-1].stem.removeprefix("state-"), store)
