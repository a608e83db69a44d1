"""The gate: which build of a group last passed its checks, and which are held back and why.

One small JSON file a group, replaced atomically, so that Dagster's runs, `headrace status` and the metrics of
any process see the same state. The gate records; `Builds.promote` and the materialization act on it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feature_repo.clock import Clock
from feature_repo.errors import LakeError
from quality.checks import CheckReport, CheckResult

logger = logging.getLogger(__name__)

MAX_ROW_DROP = 0.5
"""Share of the last good build's rows that a new build may lose before it is held back."""


@dataclass(frozen=True)
class GoodBuild:
    """The last build that passed."""

    as_of: datetime
    checked: datetime
    rows: int
    docs: str = ""


@dataclass(frozen=True)
class BlockedBuild:
    """A build that was held back. `reasons` are the messages of the blocking failures."""

    as_of: datetime
    checked: datetime
    reasons: tuple[str, ...]
    docs: str = ""


@dataclass(frozen=True)
class GateState:
    """What the gate knows of one group.

    Attributes:
        blocked: builds held back since the last good one, by the time they are as of, oldest first.
        warnings: messages of failures that do not block, from the last check.
    """

    group: str
    good: GoodBuild | None = None
    blocked: tuple[BlockedBuild, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def open(self) -> bool:
        """Whether the newest build passed."""
        return self.good is not None and not self.blocked


@dataclass(frozen=True)
class StatusRow:
    """One line of `headrace status`."""

    group: str
    state: str
    last_good: str
    detail: str


class Gate:
    """The state of all groups.

    Args:
        root: folder of the state files (`Home.quality`).
        clock: for the time of a check.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._folder = root / "gate"
        self._clock = clock

    def judge(
        self, group: str, as_of: datetime, report: CheckReport, max_row_drop: float = MAX_ROW_DROP
    ) -> CheckReport:
        """Record what came of a build's checks.

        A build that passed stays the last good one though a rerun as of the same time fails:
        `Builds.hold_back` puts it back.

        Returns:
            the report, with the comparison of the row count to the last good build among its results.
        """
        state = self.state(group)
        report = replace(report, results=(*report.results, _row_drop(state, report, as_of, max_row_drop)))
        docs = "" if report.docs is None else str(report.docs)
        warnings = tuple(r.message for r in report.failures if r.severity == "warn")
        others = tuple(b for b in state.blocked if b.as_of != as_of)
        if report.passed:
            good = GoodBuild(as_of, self._clock(), report.rows, docs)
            if state.good is not None and state.good.as_of > as_of:  # a backfill of an older day passed
                good = state.good
            later = tuple(b for b in others if b.as_of > good.as_of)
            self._write(GateState(group, good, later, warnings))
        else:
            reasons = tuple(r.message for r in report.blocking_failures)
            held = BlockedBuild(as_of, self._clock(), reasons, docs)
            blocked = tuple(sorted((*others, held), key=lambda b: b.as_of))
            self._write(GateState(group, state.good, blocked, warnings))
        return report

    def state(self, group: str) -> GateState:
        """What is known of a group; an empty state before its first check.

        Raises:
            LakeError: the state file is damaged; names it.
        """
        path = self._folder / f"{group}.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=GateState)
        except FileNotFoundError:
            return GateState(group)
        except msgspec.MsgspecError as error:
            msg = f"{path}: not a gate state ({error}); remove it, the next check writes it anew"
            raise LakeError(msg) from error

    def states(self) -> list[GateState]:
        """Every group that was ever checked, by name."""
        return [self.state(path.stem) for path in sorted(self._folder.glob("*.json"))]

    def status(self) -> list[StatusRow]:
        """Rows for `headrace status`."""
        return [_status(state) for state in self.states()]

    def _write(self, state: GateState) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{state.group}.json"
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        aside.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
        aside.replace(path)


def _row_drop(state: GateState, report: CheckReport, as_of: datetime, max_drop: float) -> CheckResult:
    """A build much smaller than the last good one is more often a fault upstream than the truth.

    So is a rerun as of the same time; a backfill of an older day has had less history and is not compared.
    """
    known = state.good if state.good is not None and state.good.as_of <= as_of else None
    least = 0 if known is None else known.rows * (1 - max_drop)
    before = "no earlier build" if known is None else f"{known.rows:,} in the last good build"
    return CheckResult(
        name="expect_row_count_near_last_good_build",
        column="",
        severity="block",
        passed=report.rows >= least,
        observed=f"{report.rows:,} rows, {before}",
        wanted=f"at least {least:,.0f} rows",
    )


def _status(state: GateState) -> StatusRow:
    good = "never" if state.good is None else state.good.as_of.isoformat(timespec="minutes")
    if state.blocked:
        newest = state.blocked[-1]
        more = f" (+{len(newest.reasons) - 1} more)" if len(newest.reasons) > 1 else ""
        detail = f"build as of {newest.as_of.isoformat(timespec='minutes')}: {newest.reasons[0]}{more}"
        return StatusRow(state.group, "blocked", good, detail)
    if state.warnings:
        return StatusRow(state.group, "warning", good, "; ".join(state.warnings))
    return StatusRow(state.group, "good", good, "")


class GateCollector(Collector):
    """The gate as Prometheus metrics; reads the state at each scrape, so any process may expose it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """By group: builds held back, as-of time of the last good one, warnings."""
        blocked = GaugeMetricFamily("headrace_gate_blocked", "Builds held back by checks.", labels=["group"])
        good = GaugeMetricFamily(
            "headrace_gate_last_good_seconds", "As-of time of the last good build (epoch).", labels=["group"]
        )
        warned = GaugeMetricFamily(
            "headrace_gate_warnings", "Failed checks that do not block.", labels=["group"]
        )
        try:
            states = self._gate.states()
        except LakeError as error:
            logger.warning("no metrics of the gate: %s", error)
            states = []
        for state in states:
            blocked.add_metric([state.group], len(state.blocked))
            warned.add_metric([state.group], len(state.warnings))
            if state.good is not None:
                good.add_metric([state.group], state.good.as_of.timestamp())
        yield from (blocked, good, warned)
