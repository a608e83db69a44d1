"""Syncs the log to the lake, for the sensor and the `events` asset."""

from datetime import date, timedelta

from feature_repo.home import Home
from feature_repo.settings import Settings


def sync_lake(settings: Settings, home: Home) -> frozenset[date]:
    """Bring the lake up to the end of the log. Calling it again changes nothing.

    Returns:
        the event days that gained events.
    """
    from streaming.ingest.files import lake_writer  # noqa: PLC0415
    from streaming.log import open_log  # noqa: PLC0415

    log = open_log(settings, home)
    try:
        return lake_writer(settings, home, log).sync().days
    finally:
        log.close()


def prune_lake(settings: Settings, home: Home) -> int:
    """Remove event days past ``HEADRACE_LAKE_RETENTION_DAYS``, if it is set; return how many."""
    from streaming.ingest.files import lake_writer  # noqa: PLC0415
    from streaming.log import open_log  # noqa: PLC0415

    if settings.lake_retention_days is None:
        return 0
    log = open_log(settings, home)
    try:
        return lake_writer(settings, home, log).prune(timedelta(days=settings.lake_retention_days))
    finally:
        log.close()


def trim_log(settings: Settings, home: Home) -> int:
    """Remove log events past ``HEADRACE_LOG_RETENTION_HOURS`` once the lake holds them.

    Returns:
        the number removed, in the log's unit: segments or stream entries.
    """
    sync_lake(settings, home)
    return _trim(settings, home, "events")


def trim_decisions(settings: Settings, home: Home) -> int:
    """Remove decision records past ``HEADRACE_DECISION_RETENTION_HOURS``; return how many, as `trim_log`."""
    from serving.decisions.record import TOPIC  # noqa: PLC0415

    if settings.event_log == "segments" and not (home.log / TOPIC).exists():
        return 0
    return _trim(settings, home, TOPIC)


def _trim(settings: Settings, home: Home, topic: str) -> int:
    from streaming.log import open_log, retention_of  # noqa: PLC0415

    log = open_log(settings, home, topic)
    try:
        return log.trim(retention_of(settings, topic))
    finally:
        log.close()
