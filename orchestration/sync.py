"""Log to lake, from the batch side: what the sensor and the `events` asset call."""

from datetime import date

from feature_repo.home import Home
from feature_repo.settings import Settings


def sync_lake(settings: Settings, home: Home) -> frozenset[date]:
    """Bring the lake up to the end of the log; the same call twice changes nothing.

    Returns:
        the event days that gained events.
    """
    from streaming.ingest import lake_writer  # noqa: PLC0415
    from streaming.log import open_log  # noqa: PLC0415

    log = open_log(settings, home)
    try:
        return lake_writer(settings, home, log).sync().days
    finally:
        log.close()
