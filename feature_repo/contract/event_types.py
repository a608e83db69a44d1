"""Event types registered by ingested data: ``HEADRACE_HOME/event_types.json``, merged by `load_settings`.

A source format may define its own types with engagement weights (Deskdrop's bookmark, comment, follow).
Ingesting registers them here, so that every later process (batch groups, stream, serving) knows them without
an environment variable. ``HEADRACE_EVENT_WEIGHTS`` always wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from feature_repo.errors import SettingsError
from feature_repo.files import write_file


def _file(home: Path) -> Path:
    return home / "event_types.json"


def registered(home: Path) -> dict[str, float]:
    """Return the types registered by earlier ingests; empty before the first.

    Raises:
        SettingsError: the file is damaged; names it.
    """
    path = _file(home)
    try:
        found = json.loads(path.read_text())
        return {str(name): float(weight) for name, weight in found.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        msg = f'{path}: unreadable ({error}); it should read e.g. {{"bookmark": 2}}, or be deleted'
        raise SettingsError(msg) from error


def register(home: Path, weights: Mapping[str, float]) -> None:
    """Register types with their weights; a known type keeps its weight."""
    known = registered(home)
    if not (new := {name: weight for name, weight in weights.items() if name not in known}):
        return
    path = _file(home)
    try:
        write_file(path, json.dumps({**known, **new}, indent=2, sort_keys=True))
    except OSError as error:
        msg = f"{path}: cannot write ({error.strerror}); point HEADRACE_HOME at a writable folder"
        raise SettingsError(msg) from error
