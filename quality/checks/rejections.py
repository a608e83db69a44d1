"""Compares a day's rejected records with its accepted ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date

from quality.checks.results import CheckReport, CheckResult
from quality.quarantine.store import Entry

MAX_SHARE = 0.05
_NAMED = 3


def rejections(entries: Iterable[Entry]) -> dict[date, Counter[str]]:
    """Count records rejected and not yet replayed, by day of first sight and by reason."""
    found: dict[date, Counter[str]] = {}
    for entry in entries:
        if entry.retried is None:
            found.setdefault(entry.first_seen.date(), Counter())[f"{entry.code} {entry.field}".strip()] += 1
    return found


def check_door(day: date, accepted: int, reasons: Counter[str], max_share: float = MAX_SHARE) -> CheckReport:
    """Warn if more than a share of a day's records was quarantined, and list the reasons.

    An upstream change of a type or a name shows here first: the records are kept, but not as events.

    Args:
        accepted: the day's events.
        reasons: the day's counts from `rejections`.
    """
    rejected = reasons.total()
    share = rejected / (accepted + rejected) if rejected else 0.0
    observed = f"{rejected:,} of {accepted + rejected:,} records rejected ({share:.4g})"
    if reasons:
        observed += ": " + ", ".join(f"{count:,} × {reason}" for reason, count in reasons.most_common(_NAMED))
    result = CheckResult(
        name="expect_few_rejected_records",
        column="",
        severity="warn",
        passed=share <= max_share,
        observed=observed,
        wanted=f"a share of at most {max_share:g}",
    )
    return CheckReport(f"door {day.isoformat()}", (result,), accepted + rejected)
