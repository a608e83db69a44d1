"""Switches a home to another event log or online store: carries over what serving needs (docs/adr/0090)."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.contract.records import Event
from feature_repo.errors import BuildError, ContractError, LogError, SettingsError
from feature_repo.group import USER
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.lock import locked
from feature_repo.run_mode import FILE, Mode, mode_of, read_mode, write_mode
from feature_repo.settings import Settings

if TYPE_CHECKING:
    from streaming.log import EventLog, Keyed

Tell = Callable[[str], None]
_BATCH = 1000


def switch_mode(settings: Settings, home: Home, tell: Tell) -> None:
    """Detect that the settings name another log or store than the home last used, and carry the data over.

    If it was killed, running it again completes the switch.

    Args:
        tell: receives lines about what was found and done.

    Raises:
        SettingsError: a stream runs here, or the old log is unreachable.
        HeadraceError: the new log or store is unreachable, or the lake cannot be read.
    """
    with locked(home.root / ".mode.lock"):
        was = read_mode(home)
        now = mode_of(settings, 0 if was is None else was.stores)
        if was is None or was == now:
            write_mode(home, now)
            return
        with _no_stream(home):
            if was.event_log != now.event_log:
                _switch_log(was, settings, home, tell)
            if was.online_store != now.online_store:
                now = mode_of(settings, was.stores + 1)
                _switch_store(was, settings, home, tell)
            write_mode(home, now)


@contextmanager
def _no_stream(home: Home) -> Iterator[None]:
    from streaming.dataflow.service import lock  # noqa: PLC0415 - Bytewax, for a switch only

    with lock(home.stream, fcntl.LOCK_EX):
        yield


def _switch_log(was: Mode, settings: Settings, home: Home, tell: Tell) -> None:
    """Move everything in both logs to the lake, then only the lake's last day to the new log.

    The stream folds that day from the start: sessions come out as before, and no event counts twice.
    """
    from orchestration.builds.lake_sync import sync_lake  # noqa: PLC0415
    from streaming.log import open_log  # noqa: PLC0415

    tell(f"the event log was {was.event_log} and is {settings.event_log} now: carrying over …")
    try:
        sync_lake(settings.model_copy(update={"event_log": was.event_log}), home)
    except LogError as error:
        msg = (
            f"HEADRACE_EVENT_LOG={settings.event_log}: {home.root} last ran with {was.event_log}, whose last "
            f"events may not be in the lake, and which is unreachable ({error}). Start it once more; or "
            f"remove {home.root / FILE} to continue without them"
        )
        raise SettingsError(msg) from error
    sync_lake(settings, home)
    log = open_log(settings, home)
    try:
        log.trim(timedelta(0))
        _forget_stream(home)
        carried = _publish(log, _recent(settings, home))
    finally:
        log.close()
    hours = (settings.session_ttl_s + settings.session_gap_s) / 3600
    tell(
        f"event log: {carried:,} events of the last {hours:g} h were copied; the stream folds them again; "
        f"decision records before this stay in the {was.event_log} log"
    )


def _forget_stream(home: Home) -> None:
    """Remove the stream's state, positions and checkpoints, because they refer to the old log."""
    for path in home.stream.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    shutil.rmtree(home.decisions, ignore_errors=True)


def _recent(settings: Settings, home: Home) -> Iterator[Keyed]:
    """Yield the lake's events whose sessions may still be alive, in order of time."""
    from feature_repo.contract.validation import decode  # noqa: PLC0415
    from streaming.dataflow.backfill import LakeLog  # noqa: PLC0415
    from streaming.log import key_of  # noqa: PLC0415

    now = settings.clock()
    since = now - timedelta(seconds=settings.session_ttl_s + settings.session_gap_s)
    ahead = timedelta(seconds=settings.future_tolerance_s) + timedelta(days=1)
    lake = LakeLog(Lake(home.lake), since.date(), (now + ahead).date(), lambda day: None)
    batch = lake.read(0, "0", _BATCH)
    while batch.records:
        for raw in batch.records:
            try:
                event = decode(raw)
            except ContractError:  # not an event: it stays in the lake
                continue
            if isinstance(event, Event) and event.event_time >= since:
                yield key_of(event), raw
        batch = lake.read(0, batch.position, _BATCH)


def _publish(log: EventLog, records: Iterator[Keyed]) -> int:
    count = 0
    while portion := list(islice(records, _BATCH)):
        log.publish(portion)
        count += len(portion)
    return count


def _switch_store(was: Mode, settings: Settings, home: Home, tell: Tell) -> None:
    """Write the current builds to the new store. The stream notices by itself that sessions are missing."""
    from feature_repo.feast_store import write_config  # noqa: PLC0415
    from feature_repo.online import online_path  # noqa: PLC0415
    from orchestration.builds.current import chosen_builds  # noqa: PLC0415
    from orchestration.materialize.materialize import materialize_current  # noqa: PLC0415
    from orchestration.materialize.withdrawals import forget_withdrawn  # noqa: PLC0415

    tell(f"the online store was {was.online_store} and is {settings.online_store} now: carrying over …")
    if settings.online_store == "sqlite":  # leftovers of an earlier use are stale
        for suffix in ("", "-wal", "-shm"):
            Path(online_path(home) + suffix).unlink(missing_ok=True)
    write_config(settings, home)
    try:
        builds = chosen_builds(home)
    except BuildError:
        tell("online store: nothing is built yet, so there is nothing to carry over; run `headrace build`")
        return
    for group, build in builds:
        rows = materialize_current(group, build, settings, home)
        if group.entity == USER:
            forget_withdrawn(group, settings, home)
        tell(f"online store: {rows:,} rows of {group.view_name}")
