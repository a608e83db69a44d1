"""A plot per rate: its days, the reference level, and the days under judgement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quality.checks.results import CheckReport
from quality.checks.suites import BEHAVIOUR
from quality.drift.feature_drift import Thresholds
from quality.drift.rates import REFERENCE_DAYS, WINDOWS, DayRates, rate_changes, total
from quality.pages.drift_index import DriftSummary, FeatureSummary, largest, save_summary
from quality.pages.plots import AFTER, BEFORE, FAILED, PASSED, About, failures_of, figure_at, page_of
from quality.pages.sparkline import Spark

ABOUT = About(BEHAVIOUR, "lake/events", f"the {REFERENCE_DAYS} days before")


def write_rate_plots(
    days: Sequence[DayRates], report: CheckReport, folder: Path, thresholds: Thresholds | None = None
) -> Path:
    """Write ``<rate>.png`` for every rate of the last day and ``index.html``, and update the indexes.

    Returns:
        the page, with the drifted rates first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = failures_of(report)
    for name in days[-1].rates:
        _write_plot(name, days, name in failed, folder / f"{name}.png")
    page = folder / "index.html"
    page.write_text(page_of(report, dict.fromkeys(days[-1].rates, ""), failed, ABOUT), encoding="utf-8")
    changes = rate_changes(days)
    limit = (thresholds or Thresholds()).rate
    features = tuple(
        FeatureSummary(
            name=name,
            meaning="rate by day",
            score=largest(change.size / limit for change in changes.get(name, ())[-1:]),
            failed=tuple(failed.get(name, ())),
            spark=_spark(name, days),
        )
        for name in sorted({*days[-1].rates, *failed})
    )
    save_summary(folder, DriftSummary(ABOUT.group, ABOUT.asset, ABOUT.against, report.rows, features))
    return page


def _spark(name: str, days: Sequence[DayRates]) -> Spark:
    known = tuple(d.rates[name].rate for d in days if name in d.rates and d.rates[name].x)
    return Spark("days", known[: -WINDOWS[-1]], known[-WINDOWS[-1] :])


def _write_plot(name: str, days: Sequence[DayRates], drifted: bool, path: Path) -> None:
    known = [(d.day, d.rates[name]) for d in days if name in d.rates and d.rates[name].x]
    before, after = known[: -WINDOWS[-1]], known[-WINDOWS[-1] :]
    with figure_at(path) as axes:
        for part, colour, label in ((before, BEFORE, "reference"), (after, AFTER, "last days")):
            on = np.array([day for day, _ in part], dtype="datetime64[D]")
            axes.plot(on, [sums.rate for _, sums in part], "o-", color=colour, label=label, ms=3)
        if before:
            axes.axhline(total([s for _, s in before]).rate, color=BEFORE, linewidth=0.8)
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", labelrotation=30, labelsize=7)
        axes.set_title(name, color=FAILED if drifted else PASSED, fontsize=10)
