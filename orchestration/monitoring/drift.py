"""Drift of a day's build against the builds of the week before: kept as metrics and plotted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from feature_repo.settings import Settings
from quality.checks.figures import Figures, failing_features, save_figures
from quality.checks.results import CheckReport
from quality.drift.feature_drift import Thresholds, measure_drift, report_of
from quality.gate.build_gate import Gate
from quality.pages.plots import About, write_plots

WINDOW_DAYS = 7


def reference_of(home: Home, settings: Settings, group: FeatureGroup, build: Build) -> list[Path]:
    """Return the last good build of each of the 7 days before a build, oldest first."""
    blocked = {b.as_of for b in Gate(home.quality, settings.clock).state(group.view_name).blocked}
    by_day: dict[date, Path] = {}
    for path in Builds(home.features).history(group.name, group.version):
        as_of = as_of_of(path)
        day = (build.as_of - as_of) // timedelta(days=1)
        # A midnight build closes the previous day, so the window counts 24-hour periods, not calendar days.
        if as_of not in blocked and (build.as_of - as_of).total_seconds() > 0 and 1 <= day <= WINDOW_DAYS:
            by_day[as_of.date()] = path
    return list(by_day.values())


def as_of_of(path: Path) -> datetime:
    """Return a build's as-of time from its folder's name."""
    return datetime.strptime(path.parent.name.removeprefix("as_of="), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def check_drift(
    settings: Settings, home: Home, group: FeatureGroup, build: Build, *, plots: bool = True
) -> CheckReport | None:
    """Compare a build with its reference; `None` if there is no reference yet.

    Raises:
        LakeError: a build cannot be read.
    """
    reference = reference_of(home, settings, group, build)
    if not reference:
        return None
    thresholds = Thresholds.of(settings)
    measured = measure_drift(group, build.path, reference, thresholds)
    report = report_of(group, measured, thresholds, build.rows)
    values = {drift.feature.name: drift.figures() for drift in measured}
    figures = Figures(group.view_name, settings.clock(), values, failing_features(report))
    save_figures(home.quality, "drift", figures)
    if not plots:
        return report
    about = About(group.view_name, f"features/{group.name}", f"the {WINDOW_DAYS} days before")
    folder = home.docs / "drift" / group.view_name / f"{build.as_of:%Y%m%dT%H%M%SZ}"
    return replace(report, docs=write_plots(measured, report, folder, thresholds, about))
