"""Retention of builds, blends, pages, reports and quarantine, and cleanup after crashes.

A build's age counts in event time from the newest build of its group, so the day a history was built does
not matter. Lake days are the source of everything and stay unless ``HEADRACE_LAKE_RETENTION_DAYS`` is set.
"""

import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from feature_repo.clock import Clock
from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from quality.pages.docs_index import renew
from quality.pages.drift_index import renew_drift
from quality.quarantine.store import Quarantine
from serving.scoring.blend import current_path

_STAMP = "%Y%m%dT%H%M%SZ"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keep:
    """Retention periods.

    Attributes:
        intraday: every build of a day; later only the day's last.
        blends: every blend; later only the day's last. Longer than decisions, whose replay needs them.
        builds: one build and one blend per day.
        runs, pages, quarantine: reports; check and drift pages with their figures; rejected records.
        damaged: damaged recovery files of the stream, which were set aside.
        scratch: temporary files; at this age no process uses them.
    """

    intraday: timedelta = timedelta(days=2)
    blends: timedelta = timedelta(days=14)
    builds: timedelta = timedelta(days=120)
    runs: timedelta = timedelta(days=90)
    pages: timedelta = timedelta(days=90)
    quarantine: timedelta = timedelta(days=90)
    damaged: timedelta = timedelta(days=30)
    scratch: timedelta = timedelta(days=1)


KEEP = Keep()


@dataclass(frozen=True)
class Removed:
    """Counts of what a retention run removed, by kind."""

    builds: int = 0
    blends: int = 0
    pages: int = 0
    runs: int = 0
    quarantined: int = 0
    scratch: int = 0


def superseded(builds: Sequence[Build], current: Build | None, keep: Keep) -> list[Build]:
    """List the builds to remove: those past their retention, and all but the last of each past day.

    The current build and the newest stay at any age, because they hold the last good values.

    Args:
        builds: builds of one group, oldest first.
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
    """Remove everything past its retention. Folders are renamed first, so no reader sees half of one."""
    now = clock()
    builds = Builds(home.features)
    removed = 0
    for group in groups:
        held = [_build(path) for path in builds.history(group.name, group.version)]
        current = builds.current(group.name, group.version)
        for build in superseded(held, current, keep):
            _remove(build.path.parent)
            _remove(home.docs / "drift" / group.view_name / f"{build.as_of:{_STAMP}}")
            removed += 1
    done = Removed(
        builds=removed,
        blends=_remove_blends(home, keep),
        pages=_remove_older(_pages(home), now - keep.pages),
        runs=_remove_older(home.runs.glob("*"), now - keep.runs),
        quarantined=Quarantine(home.quarantine, clock).prune(keep.quarantine),
        scratch=_remove_older(_scratch(home), now - keep.scratch)
        + _remove_older(home.stream.glob("*-damaged-*"), now - keep.damaged),
    )
    renew_drift(home.docs)  # first, because the check index links to existing plots
    renew(home.docs)
    logger.info("retention: %s", done)
    return done


def _build(path: Path) -> Build:
    """Describe a build by its name alone, so that a damaged file does not stop retention."""
    as_of = datetime.strptime(f"{path.parent.name}+0000", f"as_of={_STAMP}%z")
    return Build(path, as_of, as_of, 0)


def _remove_blends(home: Home, keep: Keep) -> int:
    """Remove old blends with the same rule as builds; never remove the blend in use."""
    held = sorted(filter(None, map(_blend, home.models.glob("blend-*.json"))), key=lambda b: b.as_of)
    current = current_path(home.models)
    name = current.read_text().strip() if current.exists() else ""
    serves = next((blend for blend in held if blend.path.name == name), None)
    old = superseded(held, serves, replace(keep, intraday=keep.blends))
    for blend in old:
        _remove(blend.path)
    return len(old)


def _blend(path: Path) -> Build | None:
    try:
        fitted = datetime.strptime(f"{path.stem}+0000", "blend-%Y%m%dT%H%M%S%fZ%z")
    except ValueError:
        return None  # added by hand
    return Build(path, fitted, fitted, 0)


def _pages(home: Home) -> Iterable[Path]:
    """List the pages of checks, drift and behaviour, and the figures of single days."""
    yield from (page for page in home.docs.glob("*.html") if page.name != "index.html")
    runs = (*home.docs.glob("drift/*/*"), *home.docs.glob("runs/*/*"))
    yield from (run for run in runs if run.name != "index.html")
    yield from home.quality.glob("behaviour/*.json")


def _day(build: Build) -> date:
    return (build.as_of - timedelta(microseconds=1)).date()


def _scratch(home: Home) -> Iterable[Path]:
    yield from home.features.rglob(".*.tmp")
    yield from home.lake.rglob(".*.removed")
    yield from (home.root / "spill").glob("*")
    yield from home.docs.rglob(".*.tmp")
    yield from home.quality.rglob(".*.tmp")
    yield from home.root.glob(".writable-*")
    yield from (home.features / ".spill").glob("*")
    yield from (home.root / "training").glob(".*.tmp")


def _remove_older(paths: Iterable[Path], before: datetime) -> int:
    old = [path for path in paths if path.exists() and path.stat().st_mtime < before.timestamp()]
    for path in old:
        _remove(path)
    return len(old)


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f".{path.name}.removed.tmp")
    path.rename(aside)
    shutil.rmtree(aside)
