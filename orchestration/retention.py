"""What may be removed: builds, reports, quarantine beyond their keep, and what a crash left.

Builds age by event time, from the newest of their group: a history built today is as new as today's.
Lake days are the source of everything and stay unless ``HEADRACE_LAKE_RETENTION_DAYS`` says otherwise.
"""

import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from feature_repo.clock import Clock
from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake import Build, Builds
from quality.quarantine import Quarantine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keep:
    """How long each thing is kept.

    Attributes:
        intraday: builds within a day; after it only the day's last remains.
        builds, runs, quarantine: one build per day, reports, rejected records.
        scratch: temporary files; one this old is nobody's any more.
    """

    intraday: timedelta = timedelta(days=2)
    builds: timedelta = timedelta(days=120)
    runs: timedelta = timedelta(days=90)
    quarantine: timedelta = timedelta(days=90)
    scratch: timedelta = timedelta(days=1)


KEEP = Keep()


@dataclass(frozen=True)
class Removed:
    """What a retention run removed, by kind."""

    builds: int = 0
    runs: int = 0
    quarantined: int = 0
    scratch: int = 0


def superseded(builds: Sequence[Build], current: Build | None, keep: Keep) -> list[Build]:
    """Builds to remove: past their keep, or not the last of their day once the day is past.

    The current build and the newest stay whatever their age: they are the last good values.

    Args:
        builds: of one group, oldest first.
    """
    kept_last = {_day(build): build.as_of for build in builds}
    found = []
    for build in builds[:-1]:
        if current is not None and build.as_of == current.as_of:
            continue
        age = builds[-1].as_of - build.as_of
        if age > keep.builds or (age > keep.intraday and kept_last[_day(build)] != build.as_of):
            found.append(build)
    return found


def retain(groups: Iterable[FeatureGroup], home: Home, clock: Clock, keep: Keep = KEEP) -> Removed:
    """Remove what `keep` no longer keeps. A folder is renamed aside first: no reader sees half of one."""
    now = clock()
    builds = Builds(home.features)
    removed = 0
    for group in groups:
        held = [_build(path) for path in builds.history(group.name, group.version)]
        current = builds.current(group.name, group.version)
        for build in superseded(held, current, keep):
            _remove(build.path.parent)
            removed += 1
    done = Removed(
        builds=removed,
        runs=_remove_older(home.runs.glob("*"), now - keep.runs),
        quarantined=Quarantine(home.quarantine, clock).prune(keep.quarantine),
        scratch=_remove_older(_scratch(home), now - keep.scratch),
    )
    logger.info("retention: %s", done)
    return done


def _build(path: Path) -> Build:
    """A build by its name alone: a damaged file must not keep retention from running."""
    as_of = datetime.strptime(f"{path.parent.name}+0000", "as_of=%Y%m%dT%H%M%SZ%z")
    return Build(path, as_of, as_of, 0)


def _day(build: Build) -> date:
    return (build.as_of - timedelta(microseconds=1)).date()


def _scratch(home: Home) -> Iterable[Path]:
    yield from home.features.rglob(".*.tmp")
    yield from (home.features / ".spill").glob("*")
    yield from (home.root / "training").glob(".*.tmp")


def _remove_older(paths: Iterable[Path], before: datetime) -> int:
    old = [path for path in paths if path.exists() and path.stat().st_mtime < before.timestamp()]
    for path in old:
        _remove(path)
    return len(old)


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f".{path.name}.removed.tmp")
    path.rename(aside)
    shutil.rmtree(aside)
