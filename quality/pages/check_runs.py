"""History of check runs: a record and a page per run, beside the newest page of each suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from feature_repo.files import write_file

if TYPE_CHECKING:
    from quality.checks.results import CheckResult
    from quality.checks.suites import Suite

RUNS = "runs"
"""Folder of the runs in the Data Docs, by suite."""
KEEP_RUNS = 50
"""Maximum number of runs kept per suite; retention also removes old ones."""
_STAMP = "%Y%m%dT%H%M%S%fZ"

Status: TypeAlias = Literal["passed", "warns", "blocks"]


@dataclass(frozen=True)
class CheckRun:
    """One run of a suite.

    Attributes:
        title: what was checked.
        asset: path of the Dagster asset; empty if there is none.
        drift: name under which the drift of the same data is plotted; empty if it is not.
        blocking, advice: failed expectations, in words.
    """

    title: str
    asset: str
    drift: str
    time: datetime
    rows: int
    expectations: int
    blocking: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @classmethod
    def of(cls, suite: Suite, results: Sequence[CheckResult], rows: int, time: datetime) -> CheckRun:
        """Create the run of a suite with these results."""
        failed = [r for r in results if not r.passed]
        return cls(
            title=suite.title or suite.name,
            asset=suite.asset,
            drift=suite.drift,
            time=time,
            rows=rows,
            expectations=len(results),
            blocking=tuple(r.message for r in failed if r.severity == "block"),
            advice=tuple(r.message for r in failed if r.severity == "warn"),
        )

    @property
    def status(self) -> Status:
        """The worst severity among the failures."""
        return "blocks" if self.blocking else "warns" if self.advice else "passed"

    @property
    def failures(self) -> tuple[str, ...]:
        """All failures, blocking ones first."""
        return (*self.blocking, *self.advice)

    @property
    def stamp(self) -> str:
        """Name of the run's files; sorts by time."""
        return self.time.astimezone(UTC).strftime(_STAMP)


def runs_folder(docs: Path, stem: str) -> Path:
    """Return the folder of a suite's runs; `stem` is the name of its page."""
    return docs / RUNS / stem


def save_run(docs: Path, stem: str, run: CheckRun, page: str) -> None:
    """Save a run and its page; remove the oldest beyond `KEEP_RUNS`."""
    folder = runs_folder(docs, stem)
    write_file(folder / f"{run.stamp}.html", page, parents=True)
    # Write the record last: a run is listed by its record.
    write_file(folder / f"{run.stamp}.json", msgspec.json.encode(run).decode(), parents=True)
    for record in sorted(folder.glob("*.json"))[:-KEEP_RUNS]:
        record.unlink(missing_ok=True)
        record.with_suffix(".html").unlink(missing_ok=True)


def load_run(record: Path) -> CheckRun | None:
    """Load a run; `None` if its file is damaged or missing."""
    try:
        return msgspec.json.decode(record.read_bytes(), type=CheckRun)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def newest_runs(docs: Path, stem: str, limit: int = KEEP_RUNS) -> list[CheckRun]:
    """List the runs of a suite whose pages exist, newest first."""
    found: list[CheckRun] = []
    for record in sorted(runs_folder(docs, stem).glob("*.json"), reverse=True):
        run = load_run(record) if record.with_suffix(".html").exists() else None
        if run is not None:
            found.append(run)
        if len(found) == limit:
            break
    return found
