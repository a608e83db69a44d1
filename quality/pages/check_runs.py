"""What checks found when: a record and a page per run, kept beside the newest page of each suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from quality.pages.page import write_whole

if TYPE_CHECKING:
    from quality.checks.results import CheckResult
    from quality.checks.suites import Suite

RUNS = "runs"
"""Folder of the runs, by suite, below the Data Docs."""
KEEP_RUNS = 50
"""Newest runs of a suite that are kept; retention removes the old ones among them."""
_STAMP = "%Y%m%dT%H%M%S%fZ"

Status: TypeAlias = Literal["passed", "warns", "blocks"]


@dataclass(frozen=True)
class CheckRun:
    """One run of a suite.

    Attributes:
        title: what was checked.
        asset: path of the asset in Dagster; empty where there is none.
        drift: name under which the drift of the same data is plotted; empty where it is not.
        blocking, advice: what failed, in words.
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
        """The run of a suite that had these results."""
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
        """The worst of what failed."""
        return "blocks" if self.blocking else "warns" if self.advice else "passed"

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, what blocks first."""
        return (*self.blocking, *self.advice)

    @property
    def stamp(self) -> str:
        """Name of the run's files; sorts by time."""
        return self.time.astimezone(UTC).strftime(_STAMP)


def runs_folder(docs: Path, stem: str) -> Path:
    """Where the runs of a suite are; `stem` is the name of its page."""
    return docs / RUNS / stem


def save_run(docs: Path, stem: str, run: CheckRun, page: str) -> None:
    """Keep a run and its page; the oldest beyond `KEEP_RUNS` go."""
    folder = runs_folder(docs, stem)
    write_whole(folder / f"{run.stamp}.html", page)
    # Last: a run is listed by its record.
    write_whole(folder / f"{run.stamp}.json", msgspec.json.encode(run).decode())
    for record in sorted(folder.glob("*.json"))[:-KEEP_RUNS]:
        record.unlink(missing_ok=True)
        record.with_suffix(".html").unlink(missing_ok=True)


def load_run(record: Path) -> CheckRun | None:
    """A kept run; `None` where its file is damaged or gone."""
    try:
        return msgspec.json.decode(record.read_bytes(), type=CheckRun)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def newest_runs(docs: Path, stem: str, limit: int = KEEP_RUNS) -> list[CheckRun]:
    """Runs of a suite whose pages are there, newest first."""
    found: list[CheckRun] = []
    for record in sorted(runs_folder(docs, stem).glob("*.json"), reverse=True):
        run = load_run(record) if record.with_suffix(".html").exists() else None
        if run is not None:
            found.append(run)
        if len(found) == limit:
            break
    return found
