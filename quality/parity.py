"""Online/offline parity: compares served feature rows with the same rows recomputed offline.

A served row names its group, the time up to which it was computed (`event_time`) and its values. The
recomputation is passed in; this module compares rows, feature by feature, within a budget of differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from feature_repo.group import DType, Feature, FeatureGroup
from quality.checks.online_sample import same_value
from quality.checks.results import CheckReport, CheckResult

EXAMPLES = 3


@dataclass(frozen=True)
class Served:
    """One feature row as a decision used it.

    Attributes:
        group: name of the group.
        key: key with which `recompute` finds the row (ids may be hashed).
        values: features by name; times may be ISO 8601 text.
        event_time: time up to which the row was computed, in whole seconds.
        request_id: for messages.
        time: when it was served, if known.
    """

    group: str
    key: str
    values: Mapping[str, Any]
    event_time: datetime
    request_id: str
    time: datetime | None = None


@dataclass
class FeatureParity:
    """Counts of one feature over the sample.

    Attributes:
        missing: served without a value although offline has one; `extra` is the reverse.
        mismatched: both have one and they differ.
        largest_error: largest relative error of a number.
    """

    compared: int = 0
    missing: int = 0
    extra: int = 0
    mismatched: int = 0
    largest_error: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def differing(self) -> int:
        """Number of values that differ."""
        return self.missing + self.extra + self.mismatched


@dataclass
class GroupParity:
    """Counts of one group. `unknown` rows could not be recomputed (build gone, session not in the lake);
    `late` ones cannot be compared, because events arrived after the row was served."""

    rows: int = 0
    unknown: int = 0
    late: int = 0
    features: dict[str, FeatureParity] = field(default_factory=dict)

    def figures(self) -> dict[str, dict[str, float]]:
        """Return feature → measure → value, for metrics."""
        return {
            name: {
                "mismatch": f.mismatched / f.compared if f.compared else 0.0,
                "missing": f.missing / f.compared if f.compared else 0.0,
                "extra": f.extra / f.compared if f.compared else 0.0,
                "relative_error": f.largest_error,
            }
            for name, f in self.features.items()
        }


class Late:
    """Result of a recomputation whose row changed only because events arrived late."""


Recomputed = Mapping[str, Any] | type[Late] | None


def compare(
    group: FeatureGroup, pairs: Iterable[tuple[Served, Recomputed]], into: GroupParity | None = None
) -> GroupParity:
    """Count, feature by feature, how served rows differ from recomputed ones."""
    found = into or GroupParity()
    for served, offline in pairs:
        found.rows += 1
        if offline is None:
            found.unknown += 1
        elif isinstance(offline, type):
            found.late += 1
        else:
            for feature in group.features:
                counts = found.features.setdefault(feature.name, FeatureParity())
                _count(counts, feature, served, offline.get(feature.name))
    return found


def _count(counts: FeatureParity, feature: Feature, served: Served, offline: Any) -> None:
    counts.compared += 1
    online = _typed(feature, served.values.get(feature.name))
    if same_value(online, offline):
        return
    if online is None:
        counts.missing += 1
    elif offline is None:
        counts.extra += 1
    else:
        counts.mismatched += 1
        counts.largest_error = max(counts.largest_error, relative_error(online, offline))
    if len(counts.examples) < EXAMPLES:
        counts.examples.append(f"request {served.request_id}: served {online!r}, offline {offline!r}")


def _typed(feature: Feature, value: Any) -> Any:
    """Parse times, which are text in a decision's JSON."""
    if feature.dtype is DType.TIMESTAMP and isinstance(value, str):
        return datetime.fromisoformat(value)
    return value


def relative_error(online: Any, offline: Any) -> float:
    """Return |online − offline| / |offline|; for lists the largest of the elements; 1 if undefined."""
    if isinstance(online, list | tuple) and isinstance(offline, list | tuple):
        if len(online) != len(offline):
            return 1.0
        return max((relative_error(a, b) for a, b in zip(online, offline, strict=True)), default=0.0)
    if isinstance(online, int | float) and isinstance(offline, int | float):
        if online == offline:
            return 0.0
        error = abs(online - offline) / abs(offline) if offline else math.inf
        return error if math.isfinite(error) else 1.0
    return 0.0 if online == offline else 1.0


def parity_report(
    measured: Mapping[str, GroupParity], budget: float, late_budget: float = 0.1, unknown_budget: float = 0.1
) -> CheckReport:
    """Report per group and feature; a feature blocks when more than `budget` of its values differ.

    Args:
        budget: share of values.
        late_budget, unknown_budget: shares of rows; exceeding them only warns.
    """
    results: list[CheckResult] = []
    for name, group in sorted(measured.items()):
        known = max(group.rows, 1)
        for what, count, allowed in (
            ("late_events", group.late, late_budget),
            ("unknown_rows", group.unknown, unknown_budget),
        ):
            text = f"{count:,} of {group.rows:,} served rows"
            want = f"at most {allowed:g} of them"
            passed = count / known <= allowed
            results.append(CheckResult(f"expect_few_{what}", name, "warn", passed, text, want))
        results += [_result(name, feature, counts, budget) for feature, counts in group.features.items()]
    rows = sum(group.rows for group in measured.values())
    seen = CheckResult(
        "expect_served_rows", "", "warn", rows > 0, f"{rows:,} served rows sampled", "at least 1"
    )
    return CheckReport("parity", (seen, *results), rows)


def _result(group: str, feature: str, counts: FeatureParity, budget: float) -> CheckResult:
    share = counts.differing / counts.compared if counts.compared else 0.0
    observed = (
        f"{counts.differing:,} of {counts.compared:,} values differ ({share:.4g}): "
        f"{counts.mismatched:,} mismatched, {counts.missing:,} missing, {counts.extra:,} extra, "
        f"relative error up to {counts.largest_error:.3g}"
    )
    if counts.examples:
        observed += f"; e.g. {counts.examples[0]}"
    name, column = "expect_online_equals_offline", f"{group}.{feature}"
    return CheckResult(name, column, "block", share <= budget, observed, f"at most {budget:g} of the values")


def sampled_by_hash(key: str, share: float) -> bool:
    """Return whether a request is in the parity sample; hashing its id makes all runs and workers agree."""
    import xxhash  # noqa: PLC0415

    # Seeded, so that the sample is independent of the sample of recorded decisions.
    return share >= 1.0 or xxhash.xxh3_64_intdigest(key.encode(), seed=1) < share * 2**64
