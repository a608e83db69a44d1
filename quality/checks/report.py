"""Check data against its contract: derive the suite, measure in DuckDB, let Great Expectations judge.

`CheckResult` and `CheckReport` are what the rest of the platform sees of a check: Dagster's asset checks,
the gate, metrics and `headrace status` are written against them, not against Great Expectations.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.clock import Clock, wall_clock
from quality.checks.suites import Rule, Severity, event_suite, group_suite
from quality.checks.wording import observed_text, wanted_text

if TYPE_CHECKING:
    import pyarrow as pa
    from great_expectations.core import ExpectationSuiteValidationResult

    from feature_repo.group import FeatureGroup
    from feature_repo.settings import Settings
    from quality.checks.measure import Measurement, Source
    from quality.checks.suites import Suite


@dataclass(frozen=True)
class CheckResult:
    """One expectation and what came of it.

    Attributes:
        name: what was expected, in Great Expectations' words (``expect_column_values_to_not_be_null``).
        column: the column or columns (comma-separated) it speaks of, ``""`` for the table as a whole.
        severity: a failing ``block`` keeps the data from what lies downstream; ``warn`` only reports.
        observed: what was seen, for people.
        wanted: what would be right, for people.
    """

    name: str
    column: str
    severity: Severity
    passed: bool
    observed: str
    wanted: str

    @property
    def message(self) -> str:
        """One sentence: column, what was observed, what was wanted."""
        return f"{self.column or 'table'}: {self.observed}; wanted {self.wanted}"

    @property
    def key(self) -> str:
        """A name that is unique within a report and fit for a Dagster check (letters, digits, ``_``)."""
        return "__".join(filter(None, (self.name, re.sub(r"\W", "_", self.column))))


@dataclass(frozen=True)
class CheckReport:
    """All results of one target (a group, the events of a day, a training set).

    Attributes:
        rows: rows that were looked at.
        docs: the page of the built Data Docs that shows this report, where docs were asked for.
    """

    target: str
    results: tuple[CheckResult, ...]
    rows: int = 0
    docs: Path | None = None

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """Results that did not pass, of either severity."""
        return tuple(r for r in self.results if not r.passed)

    @property
    def blocking_failures(self) -> tuple[CheckResult, ...]:
        """Failures that must stop what lies downstream."""
        return tuple(r for r in self.failures if r.severity == "block")

    @property
    def passed(self) -> bool:
        """Whether nothing blocks."""
        return not self.blocking_failures


def check_group(
    group: FeatureGroup,
    table: pa.Table | Path,
    docs: Path | None = None,
    overrides: Sequence[Rule] = (),
    keep_page: timedelta | None = None,
) -> CheckReport:
    """Check the rows of a built group against its declaration.

    Args:
        table: the rows, or the Parquet file (or folder of files) that holds them.
        docs: folder of the Data Docs; a page of this report is written there.
        overrides: accepted bounds (`quality.checks.proposals`).
        keep_page: as of `check`.

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

    Great Expectations judges, and is imported for it (seconds, once in a process), unless every rule plainly
    holds and the page may be kept.

    Args:
        keep_page: the age up to which a page of the same rules, all of which held then too, need not be
            written again.
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
    """Great Expectations' result, and its verdicts."""
    with warnings.catch_warnings():
        # Great Expectations 1.24 imports `sre_constants`, which is not ours to mend.
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)
        from quality.checks.expectations import judge, verdicts  # noqa: PLC0415
    judged = judge(suite, measurement, now)
    return judged, verdicts(judged)
