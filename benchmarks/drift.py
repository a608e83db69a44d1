"""`drift_false_alarms`: 100 days of a stable shop; builds against the 7 days before, behaviour against 28.
`drift_<kind>`: days with a drift alarm in the week after a planted change.

The baseline of `drift_false_alarms` is the number of checks, so its ratio is the share of false alarms. The
baseline of a planted change is the same week without it (same seed), in which every alarm is false. The
checks cover `user_profile` and `item_profile`, which have enough rows to compare, and behaviour.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.settings import Settings

if TYPE_CHECKING:
    from quality.checks.results import CheckReport

USERS, ITEMS, SEED = 300, 200, 5
WARMUP, STABLE, WEEK = 30, 100, 7
BUILT = 2 * WEEK
"""Days with builds before the first check: its reference."""
KINDS = ("taste", "conversion", "activity")
CHECKED = ("user_profile", "item_profile")
TARGETS = {
    "drift_false_alarms": Target(0.001, "ratio"),
    **{f"drift_{kind}": Target(1, side="at least") for kind in KINDS},
}
LIMITS = {"drift_false_alarms": 1500.0, **dict.fromkeys((f"drift_{kind}" for kind in KINDS), 1500.0)}


@dataclass
class Alarms:
    """The outcome of the checks of some days.

    Attributes:
        by_day: day number → failed checks as ``group.feature``, for days with any.
    """

    checks: int = 0
    features: int = 0
    by_day: dict[int, list[str]] = field(default_factory=dict)

    def add(self, day: int, name: str, report: CheckReport | None) -> None:
        """Count the report of a day."""
        if report is None:
            return
        self.checks += len(report.results)
        self.features += len({r.column for r in report.results})
        if report.failures:
            self.by_day.setdefault(day, []).extend(f"{name}.{r.column}" for r in report.failures)


def watch(root: Path, days: int, first: int, kind: str | None = None, from_day: int = 0) -> Alarms:
    """Build every day of a shop, then check the days from `first` on.

    Args:
        kind: kind of the planted change, which applies from `from_day` on.
    """
    from orchestration.builds.build import build_group
    from orchestration.monitoring.behaviour import NAME, check_behaviour
    from orchestration.monitoring.drift import check_drift

    home = Home(root).ensure()
    settings = Settings(home=home.root)
    found = Alarms()
    for day, as_of in enumerate(_simulated(home, days, kind, from_day)):
        if day < first - BUILT:  # not a reference of any checked day
            continue
        for name in CHECKED:
            group = all_groups()[name]
            build = build_group(group, settings, home, as_of, lambda: as_of)  # noqa: B023 - called at once
            if day >= first:
                found.add(day, name, check_drift(settings, home, group, build, plots=False))
        if day >= first:
            yesterday = (as_of - timedelta(days=1)).date()
            found.add(day, NAME, check_behaviour(settings, home, yesterday, plots=False))
    return found


def _simulated(home: Home, days: int, kind: str | None, from_day: int) -> Iterator[datetime]:
    """Fill the lake, then yield the end of each day."""
    from feature_repo.lake.lake import Lake
    from streaming.simulator import Drift, ShopConfig, simulate_lake

    config = ShopConfig(
        users=USERS,
        items=ITEMS,
        days=days,
        seed=SEED,
        duplicates=0,
        late=0,
        malformed=0,
        drift=None if kind is None else Drift(from_day, kind),  # type: ignore[arg-type]
    )
    simulate_lake(config, Lake(home.lake))
    for day in range(days):
        yield config.start + timedelta(days=day + 1)


def run() -> Sequence[Row]:
    """Check a hundred stable days."""
    with tempfile.TemporaryDirectory() as folder:
        found = watch(Path(folder), WARMUP + STABLE, WARMUP)
    alarms = sum(map(len, found.by_day.values()))
    facts = {"days": STABLE, "feature_days": found.features, "alarms": dict(found.by_day)}
    return [Row("drift_false_alarms", alarms, "alarms", "checks", found.checks, found.checks, facts)]


def run_planted() -> Sequence[Row]:
    """Check a week with each kind of change, and one without."""
    with tempfile.TemporaryDirectory() as folder:
        stable = watch(Path(folder) / "stable", WARMUP + WEEK, WARMUP)
        rows = []
        for kind in KINDS:
            found = watch(Path(folder) / kind, WARMUP + WEEK, WARMUP, kind, WARMUP)
            told = Counter(name for names in found.by_day.values() for name in names)
            facts = {"of_days": WEEK, "told": dict(told.most_common(8))}
            rows.append(
                Row(f"drift_{kind}", len(found.by_day), "days", "no change", len(stable.by_day), WEEK, facts)
            )
    return rows


RUNS = {"drift_false_alarms": run, **dict.fromkeys((f"drift_{kind}" for kind in KINDS), run_planted)}
