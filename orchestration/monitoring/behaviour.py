"""Drift of visitor behaviour: a day's rates against the weeks before, kept as metrics and plotted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import msgspec

from feature_repo.files import write_file
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings, with_registered
from orchestration.builds.fingerprint import fingerprint
from orchestration.monitoring.drift import as_of_of
from quality.checks.figures import Figures, failing_features, save_figures
from quality.checks.results import CheckReport
from quality.checks.suites import BEHAVIOUR
from quality.drift.day_rates import TOP, day_rates
from quality.drift.feature_drift import Thresholds
from quality.drift.rates import REFERENCE_DAYS, WINDOWS, DayRates, rate_changes, rates_report
from quality.pages.rate_plots import write_rate_plots

NAME = BEHAVIOUR
PROFILES = "user_profile"
_VERSION = "1"
"""Version of the rate definitions; changing it recomputes the cached days."""


@dataclass(frozen=True)
class _Kept:
    """A day's rates and the inputs they were computed from."""

    inputs: str
    rates: DayRates


def check_behaviour(settings: Settings, home: Home, day: date, *, plots: bool = True) -> CheckReport | None:
    """Compare the last days up to `day` with the four weeks before; `None` if the day has no events.

    Raises:
        LakeError: a file of the lake or a build cannot be read; names it.
    """
    days = rates_of(settings, home, day)
    if not days or days[-1].day != day:
        return None
    report = rates_report(days, Thresholds.of(settings))
    if not report.results:
        return report
    values = {
        name: {"rate": last.after, "rate_change": last.size}
        for name, changes in rate_changes(days).items()
        for last in changes[-1:]
    }
    save_figures(home.quality, "drift", Figures(NAME, settings.clock(), values, failing_features(report)))
    if not plots:
        return report
    folder = home.docs / "drift" / NAME / day.isoformat()
    return replace(report, docs=write_rate_plots(days, report, folder, Thresholds.of(settings)))


def rates_of(settings: Settings, home: Home, day: date) -> list[DayRates]:
    """Return the rates of the days that a check of `day` uses, ascending; days without events are absent.

    A day is measured once and cached until its files or the profiles of its morning change.
    """
    lake = Lake(home.lake)
    first = day - timedelta(days=REFERENCE_DAYS + WINDOWS[-1] - 1)
    profiles = _profiles(home, all_groups()[PROFILES])
    engaging = [kind for kind, weight in with_registered(settings).weights.items() if weight > 0]
    found = []
    for each in (d for d in lake.days() if first <= d <= day):
        files, built = lake.files_of(each), profiles.get(datetime.combine(each, time(), UTC))
        inputs = fingerprint([*files, *([built] if built else [])], _VERSION, str(TOP), *sorted(engaging))
        path = home.quality / NAME / f"{each.isoformat()}.json"
        rates = _kept(path, inputs)
        if rates is None:
            rates = day_rates(each, files, lake.files("item"), built, engaging, memory=settings.duckdb_memory)
            _keep(path, _Kept(inputs, rates))
        found.append(rates)
    return found


def _profiles(home: Home, group: FeatureGroup) -> dict[datetime, Path]:
    """Return the builds by as-of time."""
    return {as_of_of(path): path for path in Builds(home.features).history(group.name, group.version)}


def _kept(path: Path, inputs: str) -> DayRates | None:
    """Return the cached rates of these inputs; `None` if there are none or the file is damaged."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return kept.rates if kept.inputs == inputs else None


def _keep(path: Path, kept: _Kept) -> None:
    write_file(path, msgspec.json.encode(kept), parents=True)
