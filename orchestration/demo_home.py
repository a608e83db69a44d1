"""The demo's own folder, its clock at the end of the data, and what the lake holds."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.lake import Lake
from feature_repo.settings import Settings

MARKER = ".headrace-demo"


class DemoError(HeadraceError):
    """The demo cannot begin: its folder holds something else, or the data hold no event."""


def clean_folder(folder: Path) -> Path:
    """The demo's own folder, emptied.

    Raises:
        DemoError: it holds files that no demo put there.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        msg = f"{folder}: holds files that are not the demo's; move them, or point HEADRACE_HOME elsewhere"
        raise DemoError(msg)
    if folder.exists():
        shutil.rmtree(folder)
    Home(folder).ensure()
    (folder / MARKER).touch()
    return folder


def at_end_of_data(settings: Settings) -> Settings:
    """Settings whose clock stands one second after the newest event: history served as if it were now."""
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
    offset = newest + timedelta(seconds=1) - datetime.now(UTC)
    return settings.model_copy(update={"clock_offset_s": offset.total_seconds()})


def events_by_type(settings: Settings) -> dict[str, int]:
    """Events in the lake by type."""
    import duckdb  # noqa: PLC0415

    files = Lake(Home(settings.home).lake).files("event")
    if not files:
        return {}
    query = "SELECT event_type, count(*) FROM read_parquet($1) GROUP BY 1 ORDER BY 2 DESC, 1"
    return dict(duckdb.connect().execute(query, [files]).fetchall())
