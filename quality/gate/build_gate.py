"""The gate: records a group's last good build, and which builds are held back and why.

Each group has one small JSON file, replaced atomically under a lock, so Dagster's runs, `headrace status` and
the metrics of every process see the same state. The gate only records; `Builds.promote` and the
materialization act on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from feature_repo.clock import Clock
from feature_repo.errors import BuildError, LakeError
from feature_repo.files import write_file
from feature_repo.lock import locked

if TYPE_CHECKING:
    from quality.checks.results import CheckReport, CheckResult

ACCEPTED = "accepted.jsonl"
BLOCKED_KEPT = 200
"""Maximum number of remembered held-back builds: a broken upstream adds one with each run."""
MAX_ROW_DROP = 0.5
"""Share of the last good build's rows that a new build may lose without being held back."""


@dataclass(frozen=True)
class GoodBuild:
    """The last build that passed."""

    as_of: datetime
    checked: datetime
    rows: int
    docs: str = ""


@dataclass(frozen=True)
class BlockedBuild:
    """A build that was held back.

    Attributes:
        reasons: messages of the blocking failures.
        lost_to: its row count, if that is too low compared with the last good build.
    """

    as_of: datetime
    checked: datetime
    reasons: tuple[str, ...]
    docs: str = ""
    lost_to: int | None = None


@dataclass(frozen=True)
class AcceptedLoss:
    """A person's confirmation that a loss of rows is correct, until the next build that passes.

    Attributes:
        rows: the new reference, in place of the last good build's row count `of`.
        as_of: as-of time of the build that was held back.
    """

    group: str
    rows: int
    of: int
    as_of: datetime
    accepted: datetime
    who: str
    reason: str


@dataclass(frozen=True)
class GateState:
    """The gate's knowledge of one group.

    Attributes:
        blocked: builds held back since the last good one, by as-of time, oldest first.
        warnings: messages of non-blocking failures in the last check.
        accepted: an accepted loss of rows.
    """

    group: str
    good: GoodBuild | None = None
    blocked: tuple[BlockedBuild, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    accepted: AcceptedLoss | None = None

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
        clock: gives the time of a check.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._folder = root / "gate"
        self._clock = clock

    def judge(
        self, group: str, as_of: datetime, report: CheckReport, max_row_drop: float = MAX_ROW_DROP
    ) -> CheckReport:
        """Record the outcome of a build's checks.

        A build that passed stays the last good one even if a rerun as of the same time fails:
        `Builds.hold_back` restores it.

        Returns:
            the report, extended by the comparison of its row count with the last good build's.
        """
        with locked(self._folder / ".lock"):  # concurrent updates would lose one of the two
            state = self.state(group)
            drop = _row_drop(state, report, as_of, max_row_drop)
            report = replace(report, results=(*report.results, drop))
            self._write(_after(state, as_of, self._clock(), report, drop))
        return report

    def accept_loss(self, group: str, who: str, reason: str) -> AcceptedLoss:
        """Accept the row count of the newest build held back for a loss as the reference for the next build.

        The acceptance is recorded permanently in ``accepted.jsonl`` beside the states.

        Raises:
            BuildError: no build of the group is held back for a loss of rows.
        """
        with locked(self._folder / ".lock"):  # concurrent updates would lose one of the two
            state = self.state(group)
            held = next((b for b in reversed(state.blocked) if b.lost_to is not None), None)
            if held is None or held.lost_to is None or state.good is None:
                msg = f"{group}: no build is held back for a loss of rows; see `headrace status`"
                raise BuildError(msg)
            loss = AcceptedLoss(group, held.lost_to, state.good.rows, held.as_of, self._clock(), who, reason)
            with (self._folder / ACCEPTED).open("ab") as audit:
                audit.write(msgspec.json.encode(loss) + b"\n")
            self._write(replace(state, accepted=loss))
        return loss

    def state(self, group: str) -> GateState:
        """Return the state of a group; an empty state before its first check.

        Raises:
            LakeError: the state file is damaged; names it.
        """
        path = self._folder / f"{group}.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=GateState)
        except FileNotFoundError:
            return GateState(group)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            msg = f"{path}: not a gate state ({error}); remove it; the next check writes it again"
            raise LakeError(msg) from error

    def states(self) -> list[GateState]:
        """Return the state of every group that was ever checked, by name."""
        return [self.state(path.stem) for path in sorted(self._folder.glob("*.json"))]

    def status(self) -> list[StatusRow]:
        """Return the rows for `headrace status`."""
        return [_status(state) for state in self.states()]

    def _write(self, state: GateState) -> None:
        path = self._folder / f"{state.group}.json"
        write_file(path, msgspec.json.format(msgspec.json.encode(state), indent=2))


def _after(
    state: GateState, as_of: datetime, now: datetime, report: CheckReport, drop: CheckResult
) -> GateState:
    """Return a group's state after a report on its build as of a time."""
    docs = "" if report.docs is None else str(report.docs)
    warnings = tuple(r.message for r in report.failures if r.severity == "warn")
    others = tuple(b for b in state.blocked if b.as_of != as_of)
    if not report.passed:
        reasons = tuple(r.message for r in report.blocking_failures)
        held = BlockedBuild(as_of, now, reasons, docs, None if drop.passed else report.rows)
        blocked = tuple(sorted((*others, held), key=lambda b: b.as_of))[-BLOCKED_KEPT:]
        return replace(state, blocked=blocked, warnings=warnings)
    if state.good is not None and state.good.as_of > as_of:  # a backfill of an older day passed
        return replace(state, blocked=others, warnings=warnings)
    later = tuple(b for b in others if b.as_of > as_of)
    return GateState(state.group, GoodBuild(as_of, now, report.rows, docs), later, warnings)


def _row_drop(state: GateState, report: CheckReport, as_of: datetime, max_drop: float) -> CheckResult:
    """Compare the row count with the last good build's: a large loss more often means an upstream fault.

    A rerun as of the same time is compared too; a backfill of an older day is not, as it had less history.
    """
    from quality.checks.results import CheckResult  # noqa: PLC0415 - loads Arrow, which `headrace status` needs not

    known = state.good if state.good is not None and state.good.as_of <= as_of else None
    before = "no earlier build" if known is None else f"{known.rows:,} in the last good build"
    rows = 0 if known is None else known.rows
    if known is not None and state.accepted is not None:
        rows = min(rows, state.accepted.rows)
        before += f", {state.accepted.rows:,} accepted"
    least = rows * (1 - max_drop)
    passed = report.rows >= least
    hint = "" if passed else f"; if the loss is correct: `headrace quality accept-rows {state.group}`"
    return CheckResult(
        name="expect_row_count_near_last_good_build",
        column="",
        severity="block",
        passed=passed,
        observed=f"{report.rows:,} rows, {before}",
        wanted=f"at least {least:,.0f} rows{hint}",
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
