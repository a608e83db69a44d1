"""Converts quality reports to Dagster's check results."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.defs.keys import AUTOMATIC, SENSOR
from quality.checks.results import CheckReport, CheckResult

BLOCKING, ADVICE = "contract", "advice"
_SEVERITY = {"block": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}
PageUrl = Callable[[Path], str]
KEEP_PAGE = timedelta(hours=1)
"""Age up to which the sensor's runs keep the page of a check that passed."""
_NAMES = {"block": BLOCKING, "warn": ADVICE}


def kept_age(context: dg.AssetCheckExecutionContext) -> timedelta | None:
    """Return the page age up to which this run keeps pages; only the sensor's runs keep any."""
    return KEEP_PAGE if context.run.tags.get(AUTOMATIC) == SENSOR else None


def check_specs(key: dg.AssetKey, partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """Define the two checks of an asset: what must hold before anything reads it, and what should hold."""
    return [
        dg.AssetCheckSpec(
            BLOCKING,
            asset=key,
            blocking=True,
            partitions_def=partitions,
            description="Must hold before anything reads the data.",
        ),
        dg.AssetCheckSpec(
            ADVICE, asset=key, description="Should hold; reported, never blocking.", partitions_def=partitions
        ),
    ]


def check_results(
    reports: list[CheckReport], key: dg.AssetKey, url: PageUrl
) -> Iterator[dg.AssetCheckResult]:
    """Yield one result per severity over all reports of a run."""
    for severity, name in _NAMES.items():
        of_severity = [(report, r) for report in reports for r in report.results if r.severity == severity]
        failed = [f"{report.target}: {r.message}" for report, r in of_severity if not r.passed]
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=not failed,
            severity=_SEVERITY[severity],
            description="; ".join(failed) or f"{len(of_severity)} expectations hold",
            metadata=metadata_of(reports, [r for _, r in of_severity], url),
        )


def result_of(report: CheckReport, url: PageUrl, name: str | None = None) -> dg.AssetCheckResult:
    """Convert a report to one check: an error if something blocks, otherwise a warning."""
    failed = [result.message for result in report.failures]
    blocks = bool(report.blocking_failures)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description="; ".join(failed) or f"{len(report.results)} expectations hold",
        metadata=metadata_of([report], list(report.results), url),
    )


def metadata_of(reports: list[CheckReport], results: list[CheckResult], url: PageUrl) -> dict[str, Any]:
    """Return rows, a table of the results (failures first) and a link to the page, for the UI."""
    # The day's report counts the door's records again, so the two are not added.
    looked = max((r.rows for r in reports if r.docs is None), default=0)
    rows = sum(r.rows for r in reports if r.docs is not None) or looked
    found: dict[str, Any] = {"rows": rows, "expectations": len(results)}
    if results:
        found["results"] = dg.MarkdownMetadataValue(_table(results))
    docs = [r.docs for r in reports if r.docs is not None]
    if docs:
        found["data_docs"] = dg.MetadataValue.url(url(docs[-1]))
    return found


def _table(results: list[CheckResult]) -> str:
    lines = ["| | expectation | column | observed | wanted |", "|---|---|---|---|---|"]
    ordered = sorted(results, key=lambda r: r.passed)
    lines += [
        f"| {'✓' if r.passed else '✗'} | {r.name} | {r.column} | {r.observed} | {r.wanted} |" for r in ordered
    ]
    return "\n".join(lines)
