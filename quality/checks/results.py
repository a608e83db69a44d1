"""Check results for the rest of the platform.

Dagster's asset checks, the gate, metrics and `headrace status` use these, not Great Expectations' objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from quality.checks.suites import Severity


@dataclass(frozen=True)
class CheckResult:
    """One expectation and its outcome.

    Attributes:
        name: the expectation, in Great Expectations' words (``expect_column_values_to_not_be_null``).
        column: its column or columns (comma-separated); ``""`` for the table as a whole.
        severity: a failing ``block`` keeps the data from everything downstream; ``warn`` only reports.
        observed: what was found, for people.
        wanted: what is required, for people.
    """

    name: str
    column: str
    severity: Severity
    passed: bool
    observed: str
    wanted: str

    @property
    def message(self) -> str:
        """Return one sentence: column, observed, wanted."""
        return f"{self.column or 'table'}: {self.observed}; wanted {self.wanted}"

    @property
    def key(self) -> str:
        """Name that is unique within a report and valid for a Dagster check (letters, digits, ``_``)."""
        return "__".join(filter(None, (self.name, re.sub(r"\W", "_", self.column))))


@dataclass(frozen=True)
class CheckReport:
    """All results of one target (a group, the events of a day, a training set).

    Attributes:
        rows: number of rows checked.
        docs: page of the Data Docs with this report, if docs were requested.
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
        """Failures that must stop everything downstream."""
        return tuple(r for r in self.failures if r.severity == "block")

    @property
    def passed(self) -> bool:
        """Whether nothing blocks."""
        return not self.blocking_failures
