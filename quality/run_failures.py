"""Failed batch runs, stored in one small file for `headrace status` and the metrics of every process."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feature_repo.errors import LakeError
from feature_repo.files import write_file
from feature_repo.lock import locked

logger = logging.getLogger(__name__)

KEPT = 50
"""Number of newest failures kept; all are counted."""


class RunFailure(msgspec.Struct, frozen=True):
    """One failed run.

    Attributes:
        run: the run's id.
        partition: the event day; empty for a run without one.
        step: the failed step; empty if the run failed before or outside any step.
        error: one sentence.
    """

    run: str
    job: str
    partition: str
    step: str
    error: str
    time: datetime

    @property
    def line(self) -> str:
        """Return the text that is logged and sent."""
        of = f" of {self.partition}" if self.partition else ""
        where = f" at {self.step}" if self.step else ""
        return f"run {self.run[:8]}: {self.job}{of} failed{where}: {self.error}"


class Failures(msgspec.Struct, frozen=True):
    """All failures.

    Attributes:
        totals: number of failures by job since the file was first written.
        recent: the newest failures, oldest first.
    """

    totals: Mapping[str, int] = msgspec.field(default_factory=dict)
    recent: tuple[RunFailure, ...] = ()


def read_failures(runs: Path) -> Failures:
    """Read the failures so far.

    Args:
        runs: `Home.runs`.

    Raises:
        LakeError: the file is damaged; names it.
    """
    path = _path(runs)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Failures)
    except FileNotFoundError:
        return Failures()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{path}: not a list of failed runs ({error}); remove it; the next failure writes it again"
        raise LakeError(msg) from error


def add_failure(runs: Path, failure: RunFailure) -> bool:
    """Count a failure, each run once; return whether it is new.

    A damaged file is set aside under a different name.
    """
    path = _path(runs)
    with locked(runs / ".failures.lock"):
        try:
            known = read_failures(runs)
        except LakeError as error:
            logger.warning("%s; set aside", error)
            path.replace(path.with_suffix(f".{uuid.uuid4().hex[:8]}.damaged"))
            known = Failures()
        if any(failure.run == other.run for other in known.recent):
            return False
        totals = Counter(known.totals)
        totals[failure.job] += 1
        found = Failures(dict(totals), (*known.recent, failure)[-KEPT:])
        write_file(path, msgspec.json.format(msgspec.json.encode(found), indent=2))
    return True


def _path(runs: Path) -> Path:
    return runs / "failures.json"


class RunFailuresCollector(Collector):
    """Failed runs as Prometheus metrics; reads the file at each scrape, so any process may expose it.

    Args:
        runs: `Home.runs`.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs

    def collect(self) -> Iterator[Metric]:
        """Collect by job the number of failures and the time of the last one."""
        failed = CounterMetricFamily("headrace_run_failures", "Batch runs that failed.", labels=["job"])
        last = GaugeMetricFamily(
            "headrace_run_last_failure_seconds", "When a batch run failed last (epoch).", labels=["job"]
        )
        try:
            found = read_failures(self._runs)
        except LakeError as error:
            logger.warning("no metrics of failed runs: %s", error)
            found = Failures()
        for job, count in found.totals.items():
            failed.add_metric([job], count)
        for job, time in {failure.job: failure.time for failure in found.recent}.items():
            last.add_metric([job], time.timestamp())
        yield from (failed, last)
