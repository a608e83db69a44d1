"""Bounds proposed from history, and those that a person has accepted.

`propose` reads the profiles of past builds and writes ``proposals/<group>.json``; a person may edit it.
`accept` moves rules to ``accepted/<group>.json``, from where `accepted` adds them to the suites. A proposal
has no effect until it is accepted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from feature_repo.errors import BuildError, LakeError
from feature_repo.files import write_file
from feature_repo.group import FeatureGroup
from quality.checks.build_profile import BuildProfile, ColumnProfile
from quality.checks.suites import ANY_VALUE, Rule, group_suite

LEAST_BUILDS = 3
"""With fewer builds, a range means nothing."""
ROW_FACTOR = 2.0
NULL_MARGIN = 0.02
SPAN_MARGIN = 0.5

logger = logging.getLogger(__name__)
_File = TypeVar("_File", "Proposals", "Accepted")


@dataclass(frozen=True)
class Proposal:
    """A rule, and the figures it is based on, in words."""

    rule: Rule
    why: str


@dataclass(frozen=True)
class Proposals:
    """The proposals for a group, the number of builds behind them, and their time."""

    group: str
    builds: int
    proposed: datetime
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True)
class Accepted:
    """Rules added to the declared ones. A later acceptance replaces one of the same kind and columns."""

    group: str
    accepted: datetime
    rules: tuple[Rule, ...]


def propose(group: FeatureGroup, history: Sequence[BuildProfile]) -> tuple[Proposal, ...]:
    """Propose bounds that every build of the history meets with some margin.

    Row counts may halve or double beyond the history; shares of nulls may grow by half plus 2 points; numbers
    may leave their range by half its width, but a range without negatives stays so. A declared rule is
    tightened, never loosened, and keeps its severity; new rules warn.

    Raises:
        BuildError: fewer than three builds have rows.
    """
    builds = [build for build in history if build.rows]
    if len(builds) < LEAST_BUILDS:
        msg = (
            f"{group.name}: {len(builds)} builds with rows; bounds need {LEAST_BUILDS}: "
            "run the chain for more days first"
        )
        raise BuildError(msg)
    declared = {rule.identity: rule for rule in group_suite(group).rules}
    found = [_rows(builds)]
    for name in group.feature_names:
        columns = [build.columns[name] for build in builds]
        found += [p for p in (_nulls(name, columns), _range(name, columns)) if p is not None]
    tightened = [replace(p, rule=_tightened(declared.get(p.rule.identity), p.rule)) for p in found]
    return tuple(p for p in tightened if p.rule != declared.get(p.rule.identity))


def _rows(builds: Sequence[BuildProfile]) -> Proposal:
    low, high = min(b.rows for b in builds), max(b.rows for b in builds)
    rule = Rule(
        "row_count_between",
        minimum=max(1, math.floor(low / ROW_FACTOR)),
        maximum=math.ceil(high * ROW_FACTOR),
        severity="warn",
    )
    return Proposal(rule, f"{low:,} … {high:,} rows in {len(builds)} builds")


def _nulls(name: str, columns: Sequence[ColumnProfile]) -> Proposal | None:
    most = max(c.null_share for c in columns)
    allowed = round(min(1.0, most * 1.5 + NULL_MARGIN), 4)
    if allowed >= 1:
        return None
    rule = Rule("not_null", (name,), mostly=round(1 - allowed, 4), severity="warn")
    return Proposal(rule, f"at most {most:.4g} null in {len(columns)} builds")


def _range(name: str, columns: Sequence[ColumnProfile]) -> Proposal | None:
    lows = [c.minimum for c in columns if c.minimum is not None]
    highs = [c.maximum for c in columns if c.maximum is not None]
    if not lows:
        return None
    low, high = min(lows), max(highs)
    room = (high - low) * SPAN_MARGIN or max(abs(high), 1.0) * SPAN_MARGIN
    bottom = low - room
    if low >= 0:
        bottom = max(0.0, bottom)
    rule = Rule("between", (name,), minimum=_rounded(bottom), maximum=_rounded(high + room), severity="warn")
    return Proposal(rule, f"{low:.6g} … {high:.6g} in {len(columns)} builds")


def _tightened(declared: Rule | None, proposed: Rule) -> Rule:
    """Combine the stricter bound on each side with the declared severity."""
    if declared is None:
        return proposed
    if proposed.kind == "not_null":
        if declared.mostly <= ANY_VALUE:
            return proposed
        return replace(declared, mostly=max(declared.mostly, proposed.mostly))
    lows = [b for b in (declared.minimum, proposed.minimum) if isinstance(b, int | float)]
    highs = [b for b in (declared.maximum, proposed.maximum) if isinstance(b, int | float)]
    return replace(declared, minimum=max(lows, default=None), maximum=min(highs, default=None))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def save_proposals(root: Path, found: Proposals) -> Path:
    """Write a proposal for people to read, edit and accept; `root` is `Home.quality`."""
    return _write(root / "proposals" / f"{found.group}.json", found)


def accept(root: Path, group: FeatureGroup, now: datetime, columns: Sequence[str] = ()) -> tuple[Rule, ...]:
    """Accept the proposed rules, all or those of the given columns.

    Returns:
        the newly accepted rules.

    Raises:
        BuildError: nothing is proposed, or nothing for one of the columns.
        LakeError: the proposal file is damaged.
    """
    path = root / "proposals" / f"{group.view_name}.json"
    found = _read(path, Proposals)
    if found is None:
        msg = f"{group.name}: nothing is proposed; run `headrace quality propose {group.name}` first"
        raise BuildError(msg)
    if unknown := sorted(set(columns) - {c for p in found.proposals for c in p.rule.columns}):
        msg = f"{group.name}: nothing is proposed for {', '.join(unknown)} (see {path})"
        raise BuildError(msg)
    chosen = tuple(p.rule for p in found.proposals if not columns or set(p.rule.columns) & set(columns))
    kept = {rule.identity: rule for rule in accepted(root, group)}
    kept.update({rule.identity: rule for rule in chosen})
    _write(
        root / "accepted" / f"{group.view_name}.json", Accepted(group.view_name, now, tuple(kept.values()))
    )
    left = tuple(p for p in found.proposals if p.rule not in chosen)
    if left:
        save_proposals(root, replace(found, proposals=left))
    else:
        path.unlink()
    return chosen


def accepted(root: Path, group: FeatureGroup) -> tuple[Rule, ...]:
    """Return a group's accepted rules; skip and log those of features it no longer has.

    Raises:
        LakeError: the file is damaged; names it.
    """
    found = _read(root / "accepted" / f"{group.view_name}.json", Accepted)
    if found is None:
        return ()
    known = set(group.arrow_schema.names)
    for rule in found.rules:
        if not set(rule.columns) <= known:
            logger.warning("%s: an accepted rule names %s, which no longer exists", group.name, rule.columns)
    return tuple(rule for rule in found.rules if set(rule.columns) <= known)


def _read(path: Path, kind: type[_File]) -> _File | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{path}: {error}; fix the line or remove the file"
        raise LakeError(msg) from error


def _write(path: Path, content: Proposals | Accepted) -> Path:
    write_file(path, msgspec.json.format(msgspec.json.encode(content), indent=2), parents=True)
    return path
