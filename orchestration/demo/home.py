"""The demo's own folder, its clock at the end of the data, and what the lake holds."""

from __future__ import annotations

import fcntl
import json
import logging
import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_repo.errors import HeadraceError, LogError, SettingsError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import ENV_PREFIX, Settings, load_settings

MARKER = ".headrace-demo"
EMBEDDED: dict[str, object] = {"event_log": "segments", "online_store": "sqlite"}
RECENT = timedelta(hours=6)

logger = logging.getLogger(__name__)


class DemoError(HeadraceError):
    """The demo cannot begin: its folder holds something else, or the data have no event."""


def clean_folder(folder: Path) -> Path:
    """Empty the demo's folder, or move it aside if it has received events since the last demo.

    Raises:
        DemoError: it holds files that no demo wrote, or it is in use.
    """
    marker = folder / MARKER
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        msg = f"{folder}: holds files that are not the demo's; move them, or point HEADRACE_HOME elsewhere"
        raise DemoError(msg)
    if folder.exists():
        _check_unused(folder)
        if (noted := marker.read_text()) and noted != _log_ends(folder):
            aside = folder.with_name(f"{folder.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
            folder.rename(aside)
            logger.warning("%s received events after its demo: moved to %s", folder, aside)
        else:
            shutil.rmtree(folder)
    Home(folder).ensure()
    marker.touch()
    return folder


def note_end(folder: Path) -> None:
    """Record where the log ends after the demo, so that later events are recognized as the user's own."""
    (folder / MARKER).write_text(_log_ends(folder))


def _log_ends(folder: Path) -> str:
    from streaming.log import open_log  # noqa: PLC0415

    settings = embedded(Settings(home=folder))
    try:
        log = open_log(settings, Home(folder))
    except LogError as error:
        return f"unreadable: {error}"
    try:
        return json.dumps([log.end(n) for n in range(log.partitions)])
    except LogError as error:
        return f"unreadable: {error}"
    finally:
        log.close()


def _check_unused(folder: Path) -> None:
    """Raise if a stream runs on the folder: it would keep writing to files that are being removed."""
    from streaming.dataflow.service import lock  # noqa: PLC0415

    if Home(folder).stream.exists():
        try:
            lock(Home(folder).stream, fcntl.LOCK_EX).close()
        except SettingsError as error:
            msg = f"{folder}: `headrace up` or `headrace stream` runs on it; stop it first"
            raise DemoError(msg) from error


def embedded(settings: Settings) -> Settings:
    """Return settings that need no server: the demo writes to no shared log or store."""
    return settings.model_copy(update=EMBEDDED)


def end_of_shop(now: datetime) -> datetime:
    """Return when a simulated shop ends: near the present, with room for sessions that run past its end."""
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def at_end_of_data(settings: Settings) -> Settings:
    """Return settings whose clock is near the end of the data, so that history is served as if it were now.

    Data that end within the last hours need no other clock.
    """
    import pyarrow.compute as pc  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    lake = Lake(Home(settings.home).lake)
    days = lake.days()
    if not days:
        msg = f"{lake.root}: no event was accepted, so there is nothing to show; see the quarantine"
        raise DemoError(msg)
    newest: datetime = max(
        pc.max(pq.read_table(path, columns=["event_time"])["event_time"]).as_py()
        for path in lake.files("event", start=days[-1])
    )
    if timedelta(0) <= settings.clock() - newest <= RECENT:
        return settings
    offset = newest + timedelta(seconds=1) - datetime.now(UTC)
    return settings.model_copy(update={"clock_offset_s": round(offset.total_seconds(), 3)})


def open_command(settings: Settings) -> str:
    """Return the command that opens the demo's home in Dagster's UI and serves it."""
    changed = {"HOME": shlex.quote(str(settings.home))}
    if settings.clock_offset_s:
        changed["CLOCK_OFFSET_S"] = f"{settings.clock_offset_s:.0f}"
    default = load_settings()
    for name in EMBEDDED:
        if getattr(default, name) != getattr(settings, name):
            changed[name.upper()] = getattr(settings, name)
    given = " ".join(f"{ENV_PREFIX}{name}={value}" for name, value in changed.items())
    return f"{given} {shlex.quote(sys.argv[0])} up"


def events_by_type(settings: Settings) -> dict[str, int]:
    """Count the lake's events by type."""
    import duckdb  # noqa: PLC0415

    files = Lake(Home(settings.home).lake).files("event")
    if not files:
        return {}
    query = "SELECT event_type, count(*) FROM read_parquet($1) GROUP BY 1 ORDER BY 2 DESC, 1"
    return dict(duckdb.connect().execute(query, [files]).fetchall())
