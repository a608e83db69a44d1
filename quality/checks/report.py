"""Checks data against its contract: derives the suite, measures in DuckDB, lets Great Expectations judge."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.clock import Clock, wall_clock
from quality.checks.results import CheckReport, CheckResult
from quality.checks.suites import Rule, event_suite, group_suite
from quality.checks.wording import observed_text, wanted_text

if TYPE_CHECKING:
    import pyarrow as pa
    from great_expectations.core import ExpectationSuiteValidationResult

    from feature_repo.group import FeatureGroup
    from feature_repo.settings import Settings
    from quality.checks.measure import Measurement, Source
    from quality.checks.suites import Suite


def check_group(
    group: FeatureGroup,
    table: pa.Table | Path,
    docs: Path | None = None,
    overrides: Sequence[Rule] = (),
    keep_page: timedelta | None = None,
) -> CheckReport:
    """Check the rows of a built group against its declaration.

    Args:
        table: the rows, or the Parquet file (or folder of files) with them.
        docs: Data Docs folder; a page for this report is written there.
        overrides: accepted bounds (`quality.checks.proposals`).
        keep_page: see `check`.

    Raises:
        LakeError: the file is missing or not readable.
    """
    from quality.checks.measure import file_source  # noqa: PLC0415

    source = file_source(table) if isinstance(table, Path) else table
    return check(group_suite(group).with_overrides(overrides), source, docs, keep_page=keep_page)


def check_events(
    files: Sequence[str],
    docs: Path | None = None,
    *,
    settings: Settings | None = None,
    day: date | None = None,
    keep_page: timedelta | None = None,
) -> CheckReport:
    """Check Parquet files of events (usually one lake day) against the event contract.

    Raises:
        LakeError: a file is missing or not readable; names it.
    """
    return check(event_suite(settings, day), list(files), docs, keep_page=keep_page)


def check(
    suite: Suite,
    source: Source,
    docs: Path | None = None,
    clock: Clock = wall_clock,
    keep_page: timedelta | None = None,
) -> CheckReport:
    """Check any data against a suite.

    Great Expectations judges, unless every rule clearly holds and the page may be kept. Its import takes
    seconds, once per process.

    Args:
        keep_page: maximum age at which an existing page is kept, provided it has the same rules and all of
            them held.
    """
    from quality.checks.measure import measure  # noqa: PLC0415
    from quality.checks.plain_rules import NAMES, all_hold  # noqa: PLC0415
    from quality.pages.kept_pages import kept_page  # noqa: PLC0415

    measurement = measure(suite, source)
    page = None if docs is None or keep_page is None else kept_page(docs, suite, keep_page)
    found, now = None, clock()
    if page is not None and all_hold(suite, measurement):
        judged: Sequence[tuple[str, bool]] = [(NAMES[rule.kind], True) for rule in suite.rules]
    else:
        found, judged = _judged(suite, measurement, now)
    results = tuple(
        CheckResult(
            name=name,
            column=",".join(rule.columns),
            severity=rule.severity,
            passed=passed,
            observed=observed_text(rule, measured, suite, measurement),
            wanted=wanted_text(rule, suite),
        )
        for rule, measured, (name, passed) in zip(suite.rules, measurement.rules, judged, strict=True)
    )
    if found is not None and docs is not None:
        from quality.pages.check_runs import CheckRun  # noqa: PLC0415
        from quality.pages.datadocs import write_page  # noqa: PLC0415
        from quality.pages.kept_pages import mark  # noqa: PLC0415

        run = CheckRun.of(suite, results, measurement.rows, now)
        page = write_page(found, docs, run, mark(suite, bool(found.success)))
    return CheckReport(suite.name, results, measurement.rows, page)


def _judged(
    suite: Suite, measurement: Measurement, now: datetime
) -> tuple[ExpectationSuiteValidationResult, Sequence[tuple[str, bool]]]:
    """Return Great Expectations' result and verdicts."""
    with warnings.catch_warnings():
        # Great Expectations 1.24 imports `sre_constants`, which we cannot fix.
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)
        from quality.checks.expectations import judge, verdicts  # noqa: PLC0415
    judged = judge(suite, measurement, now)
    return judged, verdicts(judged)
