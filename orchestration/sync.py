"""Log to lake, from the batch side: what the sensor and the `events` asset call."""

from datetime import date

from feature_repo.clock import Clock
from feature_repo.home import Home
from feature_repo.lake import Lake
from feature_repo.settings import Settings


def sync_lake(settings: Settings, home: Home, clock: Clock) -> frozenset[date]:
    """Bring the lake up to the end of the log; the same call twice changes nothing.

    Returns:
        the event days that gained events.
    """
    from streaming.lake import LakeWriter  # noqa: PLC0415
    from streaming.log import open_log  # noqa: PLC0415

    log = open_log(settings, home)
    try:
        return LakeWriter(Lake(home.lake), log, clock, home.lake).sync().days
    finally:
        log.close()
