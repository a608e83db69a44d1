"""The context passed to every asset, check, job and command of the offline path."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from feature_repo.clock import Clock
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from orchestration.builds.lake_sync import sync_lake
from orchestration.processes.page_server import page_url


@dataclass(frozen=True)
class Runtime:
    """Settings, paths and clock of one process.

    Attributes:
        sync: brings the lake up to the log and returns the event days that changed.
    """

    settings: Settings
    home: Home
    clock: Clock
    sync: Callable[[Settings, Home], frozenset[date]] = sync_lake

    @classmethod
    def of(cls, settings: Settings) -> "Runtime":
        """Create the runtime for the settings; fail if the home is not writable."""
        return cls(settings, Home(Path(settings.home).resolve()).ensure(), settings.clock)

    @property
    def lake(self) -> Lake:
        return Lake(self.home.lake)

    @property
    def builds(self) -> Builds:
        return Builds(self.home.features)

    def page_url(self, page: Path) -> str:
        """Return the URL of a built page."""
        return page_url(self.settings, self.home, page)

    def now(self) -> datetime:
        """Return the current time in whole seconds, because it names builds."""
        return self.clock().replace(microsecond=0)

    def newest_day(self) -> date | None:
        """Return the newest event day that has begun, or `None` while the lake is empty."""
        today = self.now().date()
        days = [day for day in self.lake.days() if day <= today]
        return days[-1] if days else None

    def lake_changed(self) -> float:
        """Return when the newest event file was written (s since 1970); 0 while the lake is empty."""
        files = (path for day in self.lake.days() for path in self.lake.files_of(day))
        return max((os.stat(path).st_mtime for path in files), default=0.0)
