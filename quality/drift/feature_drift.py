"""Drift of a feature's distribution against a reference window.

Per feature: population stability index, Kolmogorov–Smirnov (numbers) or total variation with chi-square
(labels), change of the null share, change of the number of distinct values. A distance or a change of nulls
counts only if it is both large (a setting) and beyond chance at the sample's size: one null among five rows
raises no alarm. Features that are always null are left to the suites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from feature_repo.errors import BuildError
from feature_repo.group import DType, Feature, FeatureGroup
from feature_repo.settings import Settings
from quality.checks.build_profile import LISTS, ColumnProfile, profile
from quality.checks.results import CheckReport, CheckResult
from quality.drift.distance import Distance, category_distance, numeric_distance, share_chance
from quality.drift.samples import Sample, Sampler

SAMPLE_ROWS = 20_000
SAMPLE_LISTS = 4_000
LEAST_ROWS = 30
LABELS = (DType.STRING, DType.STRINGS, DType.BOOL)
_FEW = 20


@dataclass(frozen=True)
class Thresholds:
    """Thresholds above which a change counts as drift.

    Attributes:
        psi: population stability index.
        shift: Kolmogorov–Smirnov's D, or total variation of labels (0 … 1).
        null_share: absolute change of the share of nulls.
        cardinality: relative change of the number of distinct values.
        rate: relative change of a rate of behaviour.
        alpha: probability of a distance this large if nothing changed.
    """

    psi: float = 0.2
    shift: float = 0.1
    null_share: float = 0.1
    cardinality: float = 0.5
    rate: float = 0.25
    alpha: float = 1e-6

    @classmethod
    def of(cls, settings: Settings) -> Thresholds:
        """Return the thresholds from the settings."""
        return cls(
            settings.drift_psi,
            settings.drift_shift,
            settings.drift_null_share,
            settings.drift_cardinality,
            settings.drift_rate,
            settings.drift_alpha,
        )


@dataclass(frozen=True)
class FeatureDrift:
    """Measurements of one feature.

    Attributes:
        rows: row counts of a reference build (the median) and of the current one.
        distance: absent if a side has too few values.
    """

    feature: Feature
    null_before: float
    null_after: float
    distinct_before: float | None
    distinct_after: float | None
    distance: Distance | None
    reference: Sample
    current: Sample
    rows: tuple[int, int]

    def figures(self) -> dict[str, float]:
        """Return measure → value, for metrics."""
        found = {"null_share": self.null_after, "null_share_change": self.null_after - self.null_before}
        if self.distance is not None:
            found |= {"psi": self.distance.psi, "shift": self.distance.shift}
        if self.distinct_before and self.distinct_after is not None:
            found["cardinality_change"] = self.distinct_after / self.distinct_before - 1
        return found


def drift_report(
    group: FeatureGroup, current: Path, reference: Sequence[Path], thresholds: Thresholds | None = None
) -> CheckReport:
    """Compare a build with earlier ones; every result is a warning.

    Args:
        current: Parquet file of the build.
        reference: builds of the reference window (usually the 7 before).

    Raises:
        BuildError: there is no reference build.
        LakeError: a build cannot be read.
    """
    measured = measure_drift(group, current, reference, thresholds or Thresholds())
    return report_of(group, measured, thresholds or Thresholds(), profile(group, current).rows)


def measure_drift(
    group: FeatureGroup, current: Path, reference: Sequence[Path], thresholds: Thresholds
) -> list[FeatureDrift]:
    """Measure every feature, in the group's order.

    The sample (20,000 rows; 4,000 for list columns; the same keys on both sides) bounds the memory.
    """
    if not reference:
        msg = f"{group.name}: drift needs at least one earlier build as reference"
        raise BuildError(msg)
    after = profile(group, current)
    before = [profile(group, path) for path in reference]
    past = _samples(group, reference, sum(b.rows for b in before))
    now = _samples(group, [current], after.rows)
    rows = (round(median([b.rows for b in before if b.rows] or [0])), after.rows)
    columns = {name: [b.columns[name] for b in before if b.rows] for name in group.feature_names}
    return [
        FeatureDrift(
            feature=feature,
            null_before=median([c.null_share for c in columns[feature.name]] or [0.0]),
            null_after=after.columns[feature.name].null_share,
            distinct_before=_distinct(columns[feature.name]),
            distinct_after=after.columns[feature.name].distinct,
            distance=_distance(feature, past[feature.name], now[feature.name], thresholds.alpha),
            reference=past[feature.name],
            current=now[feature.name],
            rows=rows,
        )
        for feature in group.features
    ]


def _samples(group: FeatureGroup, paths: Sequence[Path], rows: int) -> dict[str, Sample]:
    """Sample every feature; take fewer rows of lists, which have many values each."""
    lists = [f for f in group.features if f.dtype in LISTS]
    single = [f for f in group.features if f.dtype not in LISTS]
    with Sampler(group) as sampler:
        return {
            **sampler.samples(single, paths, rows, SAMPLE_ROWS),
            **sampler.samples(lists, paths, rows, SAMPLE_LISTS),
        }


def _distinct(columns: Sequence[ColumnProfile]) -> float | None:
    counts = [c.distinct for c in columns if c.distinct is not None]
    return median(counts) if counts else None


def _distance(feature: Feature, reference: Sample, current: Sample, alpha: float) -> Distance | None:
    if min(reference.rows, current.rows) < LEAST_ROWS:
        return None
    rows = (reference.rows, current.rows)
    if isinstance(reference.values, np.ndarray) and isinstance(current.values, np.ndarray):
        return numeric_distance(reference.values, current.values, alpha, rows)
    return category_distance(list(reference.values), list(current.values), alpha, rows)


def report_of(
    group: FeatureGroup, measured: Sequence[FeatureDrift], thresholds: Thresholds, rows: int
) -> CheckReport:
    """Build the results per feature and measure."""
    results = tuple(result for drift in measured for result in _results(drift, thresholds))
    return CheckReport(f"{group.view_name} drift", results, rows)


def _results(drift: FeatureDrift, wanted: Thresholds) -> list[CheckResult]:
    column = drift.feature.name

    def result(name: str, passed: bool, observed: str, want: str) -> CheckResult:
        return CheckResult(name, column, "warn", passed, observed, want)

    change = drift.null_after - drift.null_before
    chance = share_chance((drift.null_before, drift.null_after), drift.rows, wanted.alpha)
    found = [
        result(
            "expect_null_share_near_reference",
            abs(change) <= max(wanted.null_share, chance),
            f"share of nulls {drift.null_after:.4g}, before {drift.null_before:.4g}",
            f"a change of at most {wanted.null_share:g}",
        )
    ]
    if drift.distance is not None:
        d = drift.distance
        limit = max(wanted.psi, d.psi_chance)
        observed = f"population stability index {d.psi:.4g}"
        found.append(result("expect_psi_below", d.psi <= limit, observed, f"at most {limit:.4g}"))
        small = d.shift <= wanted.shift or d.p_value >= wanted.alpha
        name, measure = "expect_distribution_near_reference", "total variation"
        if drift.feature.dtype not in LABELS:
            measure = "Kolmogorov–Smirnov distance"
        observed = f"{measure} {d.shift:.4g} (p {d.p_value:.2g})"
        found.append(result(name, small, observed, f"at most {wanted.shift:g}, or p ≥ {wanted.alpha:g}"))
    if drift.distinct_before and drift.distinct_after is not None:
        ratio = drift.distinct_after / drift.distinct_before - 1
        found.append(
            result(
                "expect_cardinality_near_reference",
                abs(ratio) <= wanted.cardinality or _tiny(drift),
                f"{drift.distinct_after:,.0f} distinct values, before {drift.distinct_before:,.0f}",
                f"a change of at most {wanted.cardinality:g} of it",
            )
        )
    return found


def _tiny(drift: FeatureDrift) -> bool:
    """Return whether there are too few distinct values for a relative change to mean anything."""
    return max(drift.distinct_before or 0, drift.distinct_after or 0) <= _FEW
